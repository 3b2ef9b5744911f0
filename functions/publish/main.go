// Command publish is Sorrel's publish function on AWS Lambda.
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
	w, err := boot.Lambda(context.Background(), "publish", os.Getenv, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	f, err := w.Telling()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lambda.Start(trigger.SQS(w.Watched(f.Apply), w.Flush))
}
