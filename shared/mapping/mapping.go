// Package mapping translates between one native object of one platform and one contract.
package mapping

import "sorrel/shared/record"

// Target is what a reference points to on the platform that is written to.
type Target struct {
	NativeID string // the native id there, "" when not known
	External string // Sorrel's external id there
}

// Mapping is one compiled mapping file. It is immutable and safe for concurrent use.
type Mapping struct {
	Platform, Object, Entity string
}

// Observe translates what a platform said.
func (m *Mapping) Observe(n record.Native) (record.Observation, map[string]record.Ref, error) {
	return record.Observation{}, nil, nil
}

// Write translates canonical fields into a native body.
func (m *Mapping) Write(fields map[string]record.Value, create bool, resolve func(field string, id record.ID) (Target, bool)) (map[string]any, map[string]record.Hold, error) {
	return nil, nil, nil
}

// As is what the platform would say back if v were written to field.
func (m *Mapping) As(field string, v record.Value) record.Value { return v }

// NativeFields lists the native paths that Observe reads, sorted.
func (m *Mapping) NativeFields() []string { return nil }
