package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"sorrel/shared/contract/source"
	"sorrel/shared/fault"
)

const (
	peopleFile = "people.yaml"
	aws        = "aws" // beside the platforms: who somebody is to the cloud's API
)

// Person is somebody who may decide, or whose changes people decide about.
type Person struct {
	Name  string
	Roles []string            // sorted
	Users map[string][]string // user ids, by platform or "aws"
}

// staff is who works here.
type staff struct {
	given   bool // there is a people file
	people  map[string]Person
	by      map[[2]string]string // platform, user id → name
	roles   []string             // that somebody has, sorted
	version string
}

// Person finds somebody by name. Callers must not modify what they get.
func (s *Set) Person(name string) (Person, bool) {
	p, ok := s.staff.people[name]
	return p, ok
}

// Acting finds who acts by a name: what they may do stands in the configuration, not in the request. Nobody, a name that
// nobody has, and a person with none of the roles, if there are any, are fault.Forbidden, of an operation.
func (s *Set) Acting(op, name string, roles ...string) (Person, error) {
	p, known := s.Person(name)
	e := fault.Error{Class: fault.Forbidden, Op: op}
	switch {
	case name == "":
		e.Detail, e.Remedy = "nobody is named who does this", "say who you are"
	case !known:
		e.Detail, e.Remedy = "nobody of this name is known: "+name, "have people.yaml of the configuration list you with your roles"
	case len(roles) > 0 && !slices.ContainsFunc(roles, func(r string) bool { return slices.Contains(p.Roles, r) }):
		e.Detail, e.Remedy = p.Name+" does not have the role "+strings.Join(roles, " or "), "ask somebody who has it in people.yaml"
	default:
		return p, nil
	}
	return p, &e
}

// PersonAt finds the person who is a user on a platform, or on "aws".
func (s *Set) PersonAt(platform, user string) (Person, bool) {
	name, ok := s.staff.by[[2]string{platform, user}]
	if !ok {
		return Person{}, false
	}
	return s.Person(name)
}

// People lists everybody by name.
func (s *Set) People() []Person {
	var out []Person
	for _, name := range slices.Sorted(maps.Keys(s.staff.people)) {
		out = append(out, s.staff.people[name])
	}
	return out
}

// readPeople reads people.yaml, if there is one.
func readPeople(fsys fs.FS, ps *source.Problems) staff {
	s := staff{people: map[string]Person{}, by: map[[2]string]string{}}
	data, err := fs.ReadFile(fsys, peopleFile)
	if errors.Is(err, fs.ErrNotExist) {
		return s
	}
	s.given = true
	if err != nil {
		ps.Add(source.Node{File: peopleFile, Line: 1, Column: 1}, "the file cannot be read: "+err.Error(), "check its permissions")
		return s
	}
	root, ok := source.Parse(peopleFile, data, ps)
	if !ok || !root.Known(ps, "the people file", "people") {
		return s
	}
	s.version = root.Normal()
	block := root.Get("people")
	if block.Kind != source.Map {
		ps.Add(root, "people must be a block of name: {roles: […]}", "write it as fiona@example.com: {roles: [finance]}")
	}
	keys := append(systems(), aws)
	for _, x := range block.Entries {
		p := Person{Name: x.Key.Text, Users: map[string][]string{}}
		if !x.Value.Known(ps, p.Name, append([]string{"roles"}, keys...)...) {
			continue
		}
		for _, r := range x.Value.Texts(ps, "roles") {
			p.Roles = append(p.Roles, r.Text)
		}
		slices.Sort(p.Roles)
		s.roles = append(s.roles, p.Roles...)
		for _, on := range keys {
			for _, user := range x.Value.Texts(ps, on) {
				at := [2]string{on, user.Text}
				if other, taken := s.by[at]; taken {
					ps.Add(user, fmt.Sprintf("%s is the %s user %q already", other, on, user.Text), "give each user to one person")
					continue
				}
				s.by[at] = p.Name
				p.Users[on] = append(p.Users[on], user.Text)
			}
		}
		s.people[p.Name] = p
	}
	slices.Sort(s.roles)
	s.roles = slices.Compact(s.roles)
	return s
}
