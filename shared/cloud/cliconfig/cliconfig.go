// Package cliconfig opens an AWS account the way command-line users expect: profiles, SSO, container and instance
// roles. It is apart from package cloud so that no Lambda function links the SDK's configuration loader.
package cliconfig

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/config"

	"sorrel/shared/cloud"
	"sorrel/shared/fault"
)

// Open loads the shared configuration. An empty profile or region means the SDK's own choice (AWS_PROFILE,
// AWS_REGION, the default profile); endpoint, when not empty, serves all services.
func Open(ctx context.Context, profile, region, endpoint string) (*cloud.Account, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithSharedConfigProfile(profile), config.WithRegion(region))
	if err != nil {
		return nil, &fault.Error{Class: fault.Contract, Op: "cliconfig.open", ID: profile, Err: err,
			Remedy: "check the profile in ~/.aws/config, or sign in again with aws sso login"}
	}
	if cfg.Region == "" {
		return nil, &fault.Error{Class: fault.Contract, Op: "cliconfig.open", ID: profile, Fields: []string{"region"},
			Detail: "is not set", Remedy: "give --region, set AWS_REGION or put it into the profile"}
	}
	return cloud.NewAccount(cfg, cloud.Endpoints{All: endpoint})
}
