// Package contract holds the versioned shape of each entity.
package contract

import "sorrel/shared/record"

// Contract is one version of one entity's shape.
type Contract struct {
	Entity  string
	Version int
}

// Check tells whether v may stand in field.
func (c *Contract) Check(field string, v record.Value) error { return nil }
