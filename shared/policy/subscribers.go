package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"sorrel/shared/contract"
	"sorrel/shared/contract/source"
	"sorrel/shared/record"
)

const subscribersFile = "subscribers.yaml"

// Where subscribers are.
const (
	ToSQS         = "sqs"
	ToEventBridge = "eventbridge"
	ToPrinter     = "print" // whoever runs the process sees it
)

// Every stands for all fields of an entity, or at the end of a pattern for all business events that begin so.
const Every = "*"

// Subscriber is told of changes and business events. What it may learn of is named: nothing else leaves, and a change of
// other fields alone is none for it.
type Subscriber struct {
	Name    string
	To      string              // one of ToSQS, ToEventBridge, ToPrinter
	Address string              // ARN of the queue or the bus; empty: the environment says it
	Fields  map[string][]string // by entity, of whose changes it is told: the fields, sorted
	Events  []string            // business events: whole names, or beginnings with Every behind
	Enrich  map[string][]Fact   // by entity
}

// Fact is a field of the record that a field refers to.
type Fact struct{ Ref, Field string }

func (f Fact) String() string { return f.Ref + "." + f.Field }

// Due is what a record is due for where this subscriber is to be told something.
func (s Subscriber) Due() string { return record.ToSubscriber(s.Name) }

// Learns reports whether it may learn of a field.
func (s Subscriber) Learns(entity, field string) bool {
	_, may := slices.BinarySearch(s.Fields[entity], field)
	return may
}

// Follows reports whether it is told of changes of an entity.
func (s Subscriber) Follows(entity string) bool { return len(s.Fields[entity]) > 0 }

// Hears reports whether it is told of a business event.
func (s Subscriber) Hears(what string) bool {
	return slices.ContainsFunc(s.Events, func(e string) bool {
		begin, any := strings.CutSuffix(e, Every)
		return e == what || any && strings.HasPrefix(what, begin)
	})
}

// Subscribers lists them by name. Callers must not modify what they get.
func (s *Set) Subscribers() []Subscriber { return s.told }

// Subscriber finds one.
func (s *Set) Subscriber(name string) (Subscriber, bool) {
	i := slices.IndexFunc(s.told, func(t Subscriber) bool { return t.Name == name })
	if i < 0 {
		return Subscriber{}, false
	}
	return s.told[i], true
}

// Printing is the configuration with a subscriber of that name more, which is told of everything, or with that one printed.
func (s *Set) Printing(name string) *Set {
	out := *s
	sub, some := s.Subscriber(name)
	if !some {
		sub = Subscriber{Name: name, Fields: map[string][]string{}, Events: []string{Every}}
		for _, e := range s.Entities() {
			sub.Fields[e] = s.Contract(e).Names()
		}
	}
	sub.To = ToPrinter
	out.told = slices.DeleteFunc(slices.Clone(s.told), func(t Subscriber) bool { return t.Name == name })
	out.told = append(out.told, sub)
	slices.SortFunc(out.told, func(a, b Subscriber) int { return strings.Compare(a.Name, b.Name) })
	return &out
}

// readSubscribers reads subscribers.yaml, if there is one, and returns its normal text.
func (s *Set) readSubscribers(fsys fs.FS, ps *source.Problems) string {
	data, err := fs.ReadFile(fsys, subscribersFile)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		ps.Add(source.Node{File: subscribersFile, Line: 1, Column: 1}, "the file cannot be read: "+err.Error(), "check its permissions")
		return ""
	}
	root, ok := source.Parse(subscribersFile, data, ps)
	if !ok || !root.Known(ps, "the subscribers file", "subscribers") {
		return ""
	}
	block := root.Get("subscribers")
	if block.Kind != source.Map {
		ps.Add(root.Key("subscribers"), "subscribers must be a block of name: {to: …}", "write it as analytics: {to: sqs, entities: {customer: [name]}}, or {} for none")
		return ""
	}
	for _, x := range block.Entries {
		if !x.Value.Known(ps, "subscriber "+x.Key.Text, "to", "address", "entities", "events", "enrich") {
			continue
		}
		s.told = append(s.told, s.readSubscriber(ps, x))
	}
	slices.SortFunc(s.told, func(a, b Subscriber) int { return strings.Compare(a.Name, b.Name) })
	return root.Normal()
}

func (s *Set) readSubscriber(ps *source.Problems, x source.Entry) Subscriber {
	n := x.Value
	out := Subscriber{Name: x.Key.Text, To: n.String(ps, "to", true), Fields: map[string][]string{}, Enrich: map[string][]Fact{}}
	if !regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`).MatchString(out.Name) {
		ps.Add(x.Key, fmt.Sprintf("%q is no name of a subscriber", out.Name), "use up to 40 small letters, digits and -, beginning with a letter")
	}
	kinds := []string{ToSQS, ToEventBridge, ToPrinter}
	if out.To != "" && !slices.Contains(kinds, out.To) {
		ps.Add(n.Get("to"), fmt.Sprintf("unknown kind %q", out.To), source.Suggest(out.To, kinds))
	}
	if n.Has("address") {
		out.Address = n.String(ps, "address", true)
		if detail := BadAddress(out.To, out.Address); detail != "" {
			ps.Add(n.Get("address"), detail, "give the ARN of the queue (arn:aws:sqs:REGION:ACCOUNT:NAME) or of the event bus (arn:aws:events:REGION:ACCOUNT:event-bus/NAME), or remove it and leave it to the environment")
		}
	}
	s.readEntities(ps, n, &out)
	for _, e := range n.Texts(ps, "events") {
		if !regexp.MustCompile(`^([a-z][a-z0-9-]*\.)*([a-z][a-z0-9-]*|\*)$`).MatchString(e.Text) {
			ps.Add(e, fmt.Sprintf("%q names no business event", e.Text), "write it as customer.activated, customer.* or *")
		}
		out.Events = append(out.Events, e.Text)
		s.heard = append(s.heard, e)
	}
	if len(out.Events) == 0 && len(n.Get("entities").Entries) == 0 {
		ps.Add(x.Key, "subscriber "+out.Name+" is told of nothing", "name entities, events or both")
	}
	s.readEnrich(ps, n, &out)
	return out
}

// Unsaid reports what subscribers are to be told of although nothing says it; says are all business events that there are.
func (s *Set) Unsaid(says []string, ps *source.Problems) {
	for _, e := range s.heard {
		if !slices.ContainsFunc(says, Subscriber{Events: []string{e.Text}}.Hears) {
			ps.Add(e, fmt.Sprintf("nothing says %q", e.Text), source.Suggest(e.Text, says))
		}
	}
}

// BadAddress says what is wrong with the address of a subscriber of a kind, or "".
func BadAddress(to, address string) string {
	kinds := map[string]string{ToSQS: `^arn:[a-z-]+:sqs:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,80}(\.fifo)?$`, ToEventBridge: `^arn:[a-z-]+:events:[a-z0-9-]+:\d{12}:event-bus/[\w./-]{1,256}$`}
	switch form, known := kinds[to]; {
	case to == ToPrinter:
		return "what is printed has no address"
	case known && !regexp.MustCompile(form).MatchString(address):
		return "this is no ARN for " + to
	}
	return ""
}

func (s *Set) readEntities(ps *source.Problems, n source.Node, out *Subscriber) {
	block := n.Get("entities")
	if block.Kind != source.None && block.Kind != source.Map {
		ps.Add(block, "entities must be a block of entity: [fields]", `write it as customer: [name, number], or customer: ["*"]`)
	}
	for _, e := range block.Entries {
		entity := e.Key.Text
		c := s.Contract(entity)
		if c == nil {
			ps.Add(e.Key, fmt.Sprintf("unknown entity %q", entity), source.Suggest(entity, s.Entities()))
			continue
		}
		for _, f := range block.Texts(ps, entity) {
			_, known := c.Field(f.Text)
			switch {
			case f.Text == Every:
				out.Fields[entity] = append(out.Fields[entity], c.Names()...)
			case !known:
				ps.Add(f, fmt.Sprintf("%s has no field %q", entity, f.Text), source.Suggest(f.Text, c.Names()))
			default:
				out.Fields[entity] = append(out.Fields[entity], f.Text)
			}
		}
		if len(out.Fields[entity]) == 0 {
			ps.Add(e.Key, "no field of "+entity+" is named", `name those that it may learn of, or "*" for all`)
		}
		slices.Sort(out.Fields[entity])
		out.Fields[entity] = slices.Compact(out.Fields[entity])
	}
}

func (s *Set) readEnrich(ps *source.Problems, n source.Node, out *Subscriber) {
	block := n.Get("enrich")
	if block.Kind != source.None && block.Kind != source.Map {
		ps.Add(block, "enrich must be a block of entity: [reference.field]", "write it as opportunity: [customer.number]")
	}
	for _, e := range block.Entries {
		entity := e.Key.Text
		c := s.Contract(entity)
		if c == nil {
			ps.Add(e.Key, fmt.Sprintf("unknown entity %q", entity), source.Suggest(entity, s.Entities()))
			continue
		}
		for _, f := range block.Texts(ps, entity) {
			var fact Fact
			fact.Ref, fact.Field, _ = strings.Cut(f.Text, ".")
			ref, known := c.Field(fact.Ref)
			to := s.Contract(ref.To)
			if !known || ref.Type != contract.Reference || to == nil {
				ps.Add(f, fmt.Sprintf("%q does not begin with a reference of %s", f.Text, entity), "write a field that refers to a record, a point, and a field of that record")
				continue
			}
			if fact.Field == "" {
				ps.Add(f, fmt.Sprintf("%q names no field of %s", f.Text, ref.To), fmt.Sprintf("write a point and a field behind it, such as %s.%s", fact.Ref, to.Names()[0]))
				continue
			}
			if _, known := to.Field(fact.Field); !known {
				ps.Add(f, fmt.Sprintf("%s has no field %q", ref.To, fact.Field), source.Suggest(fact.Field, to.Names()))
				continue
			}
			out.Enrich[entity] = append(out.Enrich[entity], fact)
		}
	}
}
