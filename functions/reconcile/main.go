// Command reconcile is Sorrel's reconcile function on AWS Lambda.
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
	w, err := boot.Lambda(context.Background(), "reconcile", os.Getenv, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lambda.Start(trigger.Reconcile(w.Reconcile(), w.Flush))
}
