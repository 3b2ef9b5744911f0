// Command files is Sorrel's files function on AWS Lambda.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"sorrel/shared/boot"
	"sorrel/shared/cloud/bucket"
	"sorrel/shared/trigger"
)

func main() {
	w, err := boot.Lambda(context.Background(), "files", os.Getenv, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lambda.Start(trigger.Files(w.Load(), bucket.Open(w.Account(), w.Bucket, boot.FilesPrefix, 0), w.Flush))
}
