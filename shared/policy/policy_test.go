package policy_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"sorrel/infra/config"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

func load(t testing.TB, fsys fs.FS) *policy.Set {
	t.Helper()
	s, problems := policy.Load(fsys)
	for _, p := range problems {
		t.Error(p)
	}
	if s == nil {
		t.Fatal("no configuration")
	}
	return s
}

func TestEmbeddedConfigurationIsSound(t *testing.T) {
	t.Parallel()
	for _, p := range policy.Validate(config.FS) {
		t.Error(p)
	}
}

func TestEmbeddedRules(t *testing.T) {
	t.Parallel()
	s := load(t, config.FS)
	if got := strings.Join(s.Entities(), " "); got != "case contact contract customer invoice opportunity order price product shipment task" {
		t.Errorf("entities %s", got)
	}
	if got := strings.Join(s.Platforms(), " "); got != "netsuite salesforce servicenow zendesk" {
		t.Errorf("platforms %s", got)
	}
	for _, tc := range []struct {
		entity, field, text, targets string
		paths                        map[string]record.Path
	}{
		{"order", "status", "owner netsuite", "salesforce zendesk", map[string]record.Path{"salesforce": "revert", "zendesk": "revert"}},
		{"order", "memo", "owner netsuite", "salesforce", map[string]record.Path{"salesforce": "ignore", "zendesk": "revert"}},
		{"shipment", "trackingNumbers", "owner netsuite", "salesforce zendesk", map[string]record.Path{"salesforce": "revert", "zendesk": "revert"}},
		{"customer", "name", "owner netsuite", "salesforce servicenow zendesk", map[string]record.Path{"salesforce": "revert", "servicenow": "revert", "zendesk": "revert"}},
		{"customer", "phone", "latest of netsuite, salesforce, zendesk, servicenow", "netsuite salesforce servicenow zendesk", map[string]record.Path{"netsuite": "accept", "salesforce": "accept", "servicenow": "accept", "zendesk": "accept"}},
		{"customer", "website", "rank of salesforce, netsuite", "netsuite salesforce servicenow", map[string]record.Path{"netsuite": "accept", "salesforce": "accept", "servicenow": "revert", "zendesk": "revert"}},
		{"customer", "creditLimit", "owner netsuite", "salesforce servicenow zendesk", map[string]record.Path{"salesforce": "reject", "servicenow": "reject", "zendesk": "reject"}},
		{"customer", "segment", "owner salesforce", "netsuite servicenow zendesk", map[string]record.Path{"netsuite": "revert", "servicenow": "revert", "zendesk": "revert"}},
		{"customer", "billingAddress.city", "owner netsuite", "salesforce servicenow zendesk", map[string]record.Path{"salesforce": "propose", "servicenow": "revert", "zendesk": "revert"}},
		{"customer", "supportTier", "owner servicenow", "salesforce zendesk", map[string]record.Path{"salesforce": "revert", "zendesk": "revert"}},
		{"opportunity", "stage", "owner salesforce", "", map[string]record.Path{}},
		{"opportunity", "activationStatus", "assign workflow", "salesforce", map[string]record.Path{"salesforce": "revert"}},
		{"task", "dueOn", "assign workflow", "salesforce", map[string]record.Path{"salesforce": "ignore"}},
		{"task", "customer", "assign workflow", "salesforce", map[string]record.Path{"salesforce": "ignore"}},
		{"task", "status", "owner salesforce", "", map[string]record.Path{}},
		{"contact", "lastName", "owner salesforce", "netsuite servicenow", map[string]record.Path{"netsuite": "revert", "servicenow": "revert", "zendesk": "revert"}},
		{"contact", "name", `assign trim((firstName ?? "") + " " + lastName)`, "zendesk", map[string]record.Path{"netsuite": "ignore", "servicenow": "revert", "zendesk": "revert"}},
		{"contact", "mobile", "latest of netsuite, salesforce, servicenow", "netsuite salesforce servicenow", map[string]record.Path{"netsuite": "accept", "salesforce": "accept", "servicenow": "accept", "zendesk": "revert"}},
	} {
		r := s.Rules(tc.entity).Fields[tc.field]
		if r.Text != tc.text || strings.Join(r.Targets, " ") != tc.targets || !reflect.DeepEqual(r.Paths, tc.paths) {
			t.Errorf("%s.%s: %s to %v, %v", tc.entity, tc.field, r.Text, r.Targets, r.Paths)
		}
		if !strings.HasPrefix(r.At, "policy/"+tc.entity+".yaml:") {
			t.Errorf("%s.%s stands at %q", tc.entity, tc.field, r.At)
		}
	}
	if got := s.Rules("shipment").Refers; !slices.Equal(got, []string{"order"}) {
		t.Errorf("a shipment refers to others in %q", got)
	}
	for _, e := range s.Entities() {
		if rules := s.Rules(e); len(rules.Fields) != len(s.Contract(e).Names()) || rules.Entity != e || len(rules.Version) != 12 {
			t.Errorf("%s: %d rules of version %q", e, len(rules.Fields), rules.Version)
		}
	}
	if got := s.NativeFields("salesforce", "Shipment__c"); !slices.IsSorted(got) || !slices.Contains(got, "Order__c") || slices.Contains(got, "Name") {
		t.Errorf("native fields %v", got)
	}
	if x, ok := s.Explain("order", "status"); !ok || !strings.Contains(x, "salesforce Order ERP_Status__c: receives it, changes there: revert") {
		t.Errorf("explained as %s", x)
	}
	if _, ok := s.Explain("order", "nothing"); ok || s.Contract("nothing") != nil || s.Rules("nothing").Fields != nil {
		t.Error("something about nothing")
	}
}

// A field of the user's own, in YAML alone: declared in the policy, one line in each mapping.
func TestCustomFieldInYAMLAlone(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{}
	if err := fs.WalkDir(config.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(config.FS, name)
		fsys[name] = &fstest.MapFile{Data: data}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	edit := func(name, old, replacement string) {
		text := string(fsys[name].Data)
		if !strings.Contains(text, old) {
			t.Fatalf("%s has no %q", name, old)
		}
		fsys[name].Data = []byte(strings.Replace(text, old, replacement, 1))
	}
	fsys["policy/order.yaml"].Data = append(fsys["policy/order.yaml"].Data, "\ncustom:\n  giftWrap: {type: enum, values: [none, paper, box]}\n"...)
	edit("mapping/netsuite.order.yaml", "fields:\n", "fields:\n  giftWrap: {path: custbody_gift, values: {\"1\": none, \"2\": paper, \"3\": box}}\n")
	edit("mapping/salesforce.order.yaml", "fields:\n", "fields:\n  giftWrap: {path: Gift__c, values: {None: none, Paper: paper}, hold: [box]}\n")
	edit("mapping/zendesk.order.yaml", "unmapped:\n", "unmapped:\n  - giftWrap\n")
	s := load(t, fsys)
	if rule := s.Rules("order").Fields["giftWrap"]; rule.Text != "owner netsuite" || strings.Join(rule.Targets, " ") != "salesforce" {
		t.Errorf("rule %+v", rule)
	}
	in, _ := s.ByEntity("order", "netsuite")
	o, _, err := in.Observe(record.Native{Ref: record.Ref{Platform: "netsuite", Object: "salesOrder", ID: "1"}, Version: record.Version{At: time.Unix(1, 0)},
		Fields: map[string]any{"custbody_gift": map[string]any{"id": "2", "refName": "Paper"}}})
	if err != nil || o.Fields["giftWrap"] != record.TextValue("paper") {
		t.Fatalf("observed %v %v", o.Fields, err)
	}
	out, _ := s.ByEntity("order", "salesforce")
	body, _, err := out.Write(o.Fields, false, nil)
	if err != nil || body["Gift__c"] != "Paper" {
		t.Errorf("wrote %v %v", body, err)
	}
	if _, held, _ := out.Write(map[string]record.Value{"giftWrap": record.TextValue("box")}, false, nil); held["giftWrap"].Type != "unknown-picklist" {
		t.Errorf("held %v", held)
	}
	if s.Rules("order").Version == load(t, config.FS).Rules("order").Version {
		t.Error("another policy of the same version")
	}
	if s.Rules("customer").Version != load(t, config.FS).Rules("customer").Version {
		t.Error("the customer's rules did not change, their version did")
	}
}

func TestVersionIgnoresCommentsAndOrder(t *testing.T) {
	t.Parallel()
	a := load(t, small(t))
	b := load(t, small(t, txtar.File{Name: "policy/thing.yaml", Data: []byte(`# the same, differently
deletes: ignore
owner: netsuite
entity: thing
paths:
  salesforce: revert
targets:
  - salesforce
contract: thing.v1
platforms:
  salesforce: Thing__c
  netsuite: thing
`)}))
	if a.Version() != b.Version() || a.Rules("thing").Version != b.Rules("thing").Version {
		t.Error("the same configuration has two versions")
	}
}

// editorSchema checks YAML by one of the schemas that editors use.
func editorSchema(t *testing.T, name string) func([]byte) error {
	t.Helper()
	data, err := fs.ReadFile(config.FS, "schema/"+name+".json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("urn:x", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("urn:x")
	if err != nil {
		t.Fatal(err)
	}
	return func(data []byte) error {
		asJSON, err := yaml.YAMLToJSON(data)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		return schema.Validate(doc)
	}
}

// Editors check the YAML files against these schemas: they must accept what Load accepts, and name every key.
func TestEditorSchemas(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"policy", "mapping", "people", "subscribers", "workflows", "lookups", "reconcile"} {
		check := editorSchema(t, dir)
		pattern, place := dir+"/*.yaml", "../schema/"
		if dir != "policy" && dir != "mapping" {
			pattern, place = dir+".yaml", "schema/"
		}
		files, err := fs.Glob(config.FS, pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, name := range files {
			data, err := fs.ReadFile(config.FS, name)
			if err != nil {
				t.Fatal(err)
			}
			if err := check(data); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if first := "# yaml-language-server: $schema=" + place + dir + ".json\n"; !bytes.HasPrefix(data, []byte(first)) {
				t.Errorf("%s does not start with %q", name, first)
			}
			if check(append(data, "surprise: 1\n"...)) == nil {
				t.Errorf("%s: an unknown key passes the editor schema", name)
			}
		}
	}
}

// What the shipped files do not use: editors and Load agree about it, too.
func TestEditorSchemasOfOtherForms(t *testing.T) {
	t.Parallel()
	customer, err := fs.ReadFile(config.FS, "policy/customer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	begin, end := bytes.Index(customer, []byte("\ncopies:")), bytes.Index(customer, []byte("\nmatch:"))
	if begin < 0 || end < begin {
		t.Fatal("the policy of customers has no copies: before match:")
	}
	shipped, err := fs.ReadFile(config.FS, "subscribers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var example []string // stands there as a comment
	for line := range strings.Lines(string(shipped)) {
		if rest, is := strings.CutPrefix(line, "#   "); is {
			example = append(example, "  "+rest)
		}
	}
	for _, tt := range []struct {
		file, text string
		good       bool
	}{
		{"policy/customer.yaml", "copies: [salesforce, netsuite, zendesk, servicenow]", true},
		{"policy/customer.yaml", "copies: {salesforce: {}, netsuite: {}, zendesk: {when: golden.number != null}, servicenow: {}}", true},
		{"policy/customer.yaml", "copies: {salesforce: {}, netsuite: {wen: golden.number != null}}", false},
		{"policy/customer.yaml", "copies: {salesforce: {}, netsuite: {withdraw: golden.number == null, alone: golden.activation != null}}", true},
		{"policy/customer.yaml", "copies: {salesforce: {}, oracle: {}}", false},
		{"policy/customer.yaml", "copies: netsuite", false},
		{"policy/customer.yaml", "copies: {netsuite: {when: [golden.number]}}", false},
		{"subscribers.yaml", "subscribers:\n" + strings.Join(example, ""), true},
		{"subscribers.yaml", "subscribers: {a: {to: print, events: [\"*\"]}}", true},
		{"subscribers.yaml", "subscribers: {a: {to: kafka, events: [\"*\"]}}", false},
		{"subscribers.yaml", "subscribers: {A_B: {to: print, events: [\"*\"]}}", false},
		{"subscribers.yaml", "subscribers: {a: {events: [\"*\"]}}", false},
		{"subscribers.yaml", "subscribers: {a: {to: print, entities: {customer: []}}}", false},
		{"subscribers.yaml", "subscribers: {a: {to: print}}", false},
		{"subscribers.yaml", "subscribers: []", false},
		{"subscribers.yaml", "{}", false},
	} {
		data := []byte(tt.text + "\n")
		schema, _, _ := strings.Cut(strings.TrimSuffix(tt.file, ".yaml"), "/")
		if schema == "policy" {
			data = slices.Concat(customer[:begin+1], data, customer[end+1:])
		}
		fsys := fstest.MapFS{}
		if err := fs.WalkDir(config.FS, ".", func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			fsys[name] = &fstest.MapFile{}
			fsys[name].Data, err = fs.ReadFile(config.FS, name)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		fsys[tt.file].Data = data
		_, problems := policy.Load(fsys)
		if err := editorSchema(t, schema)(data); (err == nil) != tt.good || (len(problems) == 0) != tt.good {
			t.Errorf("%s: the schema says %v, Load says %v", tt.text, err, problems)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		load(b, config.FS)
	}
}

// A case never touches what finance and sales own: it is on no platform of finance, nothing of it goes to a desk but what
// workflows find out, and its copy is written to no object but Salesforce's own case.
func TestCasesTouchNoMasterData(t *testing.T) {
	t.Parallel()
	s := load(t, config.FS)
	rules := s.Rules("case")
	if got := fmt.Sprint(rules.Platforms, slices.Collect(maps.Keys(rules.Copies)), rules.Origins); got != "[salesforce servicenow zendesk] [salesforce] [servicenow zendesk]" {
		t.Errorf("cases are on, copied to and come from %s", got)
	}
	findings := []string{"crmContext", "entitledTier", "entitledUntil", "entitlementReason", "erpContext", "escalation"}
	for name, rule := range rules.Fields {
		for _, p := range rule.Targets {
			m, _ := s.ByEntity("case", p)
			if p != record.Salesforce && !slices.Contains(findings, name) {
				t.Errorf("%s goes to %s %s", name, p, m.Object)
			}
			if others := []string{"customer", "contact", "order"}; slices.ContainsFunc(others, func(e string) bool { o, ok := s.ByEntity(e, p); return ok && o.Object == m.Object }) {
				t.Errorf("%s is written to the object of another entity on %s", name, p)
			}
		}
		if rule.Approval != nil {
			t.Errorf("%s can be proposed to somebody", name)
		}
	}
}
