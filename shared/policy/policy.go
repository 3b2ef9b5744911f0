// Package policy loads the whole configuration (contracts, policies, mappings) and compiles its rules.
package policy

import (
	"io/fs"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/mapping"
	"sorrel/shared/record"
)

// Problem is one thing wrong in a configuration file.
type Problem = source.Problem

// Set is a loaded configuration. It is immutable and safe for concurrent use.
type Set struct{}

// Load reads and compiles a configuration. With any problem there is no Set.
func Load(fsys fs.FS) (*Set, []Problem) { return &Set{}, nil }

// Validate lists everything wrong in a configuration.
func Validate(fsys fs.FS) []Problem {
	_, ps := Load(fsys)
	return ps
}

// Version changes whenever anything in the configuration changes.
func (s *Set) Version() string { return "" }

// Entities lists the entities, sorted.
func (s *Set) Entities() []string { return nil }

// Platforms lists the platforms that any entity names, sorted.
func (s *Set) Platforms() []string { return nil }

// PlatformsOf lists the platforms of one entity, sorted.
func (s *Set) PlatformsOf(entity string) []string { return nil }

// Rules governs entity; the zero Rules when there is no such entity.
func (s *Set) Rules(entity string) record.Rules { return record.Rules{} }

// Contract is entity's contract with its custom fields, or nil.
func (s *Set) Contract(entity string) *contract.Contract { return nil }

// ByObject finds the mapping of a native object.
func (s *Set) ByObject(platform, object string) (*mapping.Mapping, bool) { return nil, false }

// ByEntity finds the mapping of an entity on a platform.
func (s *Set) ByEntity(entity, platform string) (*mapping.Mapping, bool) { return nil, false }

// NativeFields lists the native paths that a connector must read, sorted.
func (s *Set) NativeFields(platform, object string) []string { return nil }

// Explain says in words how one field is governed.
func (s *Set) Explain(entity, field string) (string, bool) { return "", false }
