package policy

import "sorrel/shared/record"

// As gives the form that an entity's values take on a platform, and whether the entity is mapped there.
func (s *Set) As(entity, platform string) (func(field string, v record.Value) record.Value, bool) {
	m, ok := s.ByEntity(entity, platform)
	if !ok {
		return nil, false
	}
	return m.As, true
}

// On gives, for one entity, the form that values take on each platform, nil where it is not mapped.
func (s *Set) On(entity string) record.Forms {
	return func(platform string) func(string, record.Value) record.Value {
		as, _ := s.As(entity, platform)
		return as
	}
}
