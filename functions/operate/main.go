// Command operate is Sorrel's operate function on AWS Lambda: what people ask and decide.
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
	w, err := boot.Lambda(context.Background(), "operate", os.Getenv, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	desk := trigger.Desk{Config: w.Config, Ask: w.Operate(), Act: w.Steward(), Once: w.Once(), Again: w.Replay(), Compare: w.Reconcile(), Runs: w.Workflow(), Tell: w.Publish(), Dead: w.DeadLetters(), Who: trigger.Signed(w.Config), Telemetry: w.Telemetry}
	lambda.Start(trigger.Operate(desk.Routes(), w.Flush))
}
