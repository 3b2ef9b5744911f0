// Command workflow is Sorrel's workflow function on AWS Lambda.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"sorrel/shared/boot"
	"sorrel/shared/trigger"
)

func main() {
	w, err := boot.Lambda(context.Background(), "workflow", os.Getenv, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lambda.Start(trigger.SQS(w.Watched(w.Workflow().Apply), w.Flush))
}
