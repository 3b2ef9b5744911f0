// Command sweep is Sorrel's sweep function on AWS Lambda.
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
	w, err := boot.Lambda(context.Background(), "sweep", os.Getenv, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lambda.Start(trigger.Sweep(w.Sweep(), w.Replay(), w.Flush))
}
