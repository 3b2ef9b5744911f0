package workflow

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
)

// Book holds all versions of all definitions. It is immutable.
type Book struct {
	versions map[string][]Definition // by name, the oldest first
}

// NewBook checks definitions. Everything that is wrong is in the error.
func NewBook(defs ...Definition) (*Book, error) {
	b := &Book{versions: map[string][]Definition{}}
	var wrong []string
	bad := func(d Definition, format string, a ...any) {
		wrong = append(wrong, fmt.Sprintf("%s %d: %s", d.Name, d.Version, fmt.Sprintf(format, a...)))
	}
	for _, d := range defs {
		if d.Name == "" || d.Version < 1 || d.Subject == "" || d.Starts == nil || len(d.Steps) == 0 {
			bad(d, "needs a name, a version from 1, a subject, Starts and steps")
		}
		seen := map[string]bool{}
		for _, s := range d.Steps {
			switch {
			case s.Name == "" || s.Do == nil:
				bad(d, "a step needs a name and Do")
			case seen[s.Name]:
				bad(d, "two steps are called %s", s.Name)
			case !slices.IsSorted(s.Remind):
				bad(d, "reminders of %s are out of order", s.Name)
			case s.Expire > 0 && len(s.Remind) > 0 && s.Remind[len(s.Remind)-1] >= s.Expire:
				bad(d, "%s expires before the last reminder", s.Name)
			}
			seen[s.Name] = true
		}
		if slices.ContainsFunc(b.versions[d.Name], func(o Definition) bool { return o.Version == d.Version }) {
			bad(d, "there are two of this version")
		}
		b.versions[d.Name] = append(b.versions[d.Name], d)
	}
	if len(wrong) > 0 {
		return nil, fault.New(fault.Contract, "workflow.book", fmt.Sprintf("%d definitions are wrong: %q", len(wrong), wrong))
	}
	for _, all := range b.versions {
		slices.SortFunc(all, func(x, y Definition) int { return x.Version - y.Version })
	}
	return b, nil
}

// Newest lists the definitions that start runs about records of an entity, by name.
func (b *Book) Newest(entity string) []Definition {
	var out []Definition
	for _, all := range b.versions {
		if d := all[len(all)-1]; d.Subject == entity {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(x, y Definition) int { return strings.Compare(x.Name, y.Name) })
	return out
}

// Known reports whether a definition of that name starts runs about records of an entity.
func (b *Book) Known(name, entity string) bool {
	return slices.ContainsFunc(b.Newest(entity), func(d Definition) bool { return d.Name == name })
}

// Of is the definition that a run belongs to. fault.NotFound: this program does not have that version any more.
func (b *Book) Of(r Run) (Definition, error) {
	for _, d := range b.versions[r.Definition] {
		if d.Version == r.Version {
			return d, nil
		}
	}
	return Definition{}, &fault.Error{Class: fault.NotFound, Op: "workflow.book", ID: r.ID(), Detail: fmt.Sprintf("this program has no version %d of %s", r.Version, r.Definition),
		Remedy: "deploy a program that still has it"}
}

// Late is how long runs of a version of a definition may take; 0 is for ever, or not known. A nil Book knows none.
func (b *Book) Late(name string, version int) time.Duration {
	if b == nil {
		return 0
	}
	for _, d := range b.versions[name] {
		if d.Version == version {
			return d.Late
		}
	}
	return 0
}

// Names lists all definitions.
func (b *Book) Names() []string { return slices.Sorted(maps.Keys(b.versions)) }
