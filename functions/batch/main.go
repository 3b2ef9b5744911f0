// Command batch is Sorrel's batch function on AWS Lambda.
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
	w, err := boot.Lambda(context.Background(), "batch", os.Getenv, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lambda.Start(trigger.Batch(w.Batch(), w.Flush))
}
