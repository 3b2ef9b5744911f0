// Package config carries the deployable configuration: contract/*.json, policy/*.yaml, mapping/*.yaml, people.yaml, subscribers.yaml, lookups.yaml, reconcile.yaml, workflows.yaml, and
// in schema/ the JSON Schemas that help editors with the YAML files.
package config

import "embed"

// FS is the configuration that Sorrel uses when it is not told another folder.
//
//go:embed contract policy mapping schema people.yaml subscribers.yaml lookups.yaml reconcile.yaml workflows.yaml
var FS embed.FS
