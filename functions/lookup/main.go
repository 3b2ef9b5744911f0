// Command lookup is Sorrel's lookup function on AWS Lambda: what programs ask.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"sorrel/shared/boot"
	"sorrel/shared/flow/lookup"
	"sorrel/shared/trigger"
)

func main() {
	w, err := boot.Lambda(context.Background(), "lookup", os.Getenv, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	asks := trigger.Lookups{Config: w.Config, Ask: w.Lookup(), Quotas: &lookup.Quotas{Taker: w.Ledger}, Now: w.Now, NewID: boot.NewID(w.Now), Telemetry: w.Telemetry}
	lambda.Start(trigger.Operate(asks.Routes(), w.Flush))
}
