package match_test

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sorrel/shared/match"
	"sorrel/shared/match/matchtest"
	"sorrel/shared/record"
)

func rules() match.Rules {
	return match.Rules{
		{Name: "tax", Strong: true, Parts: []match.Part{{Field: "taxId", Normaliser: "tax-id", Country: "country"}}},
		{Name: "mail", Strong: true, Parts: []match.Part{{Field: "email", Normaliser: "email"}}},
		{Name: "name", Parts: []match.Part{{Field: "name", Normaliser: "company"}, {Field: "country", Normaliser: "country"}}},
		{Name: "phone", Parts: []match.Part{{Field: "phone", Normaliser: "phone", Country: "country"}}},
	}
}

func item(platform, id string, fields ...string) match.Item {
	it := match.Item{Ref: record.Ref{Platform: platform, Object: "customer", ID: id}, Fields: map[string]record.Value{}}
	for i := 0; i < len(fields); i += 2 {
		if fields[i] == "external" {
			it.External = record.ID(fields[i+1])
			continue
		}
		it.Fields[fields[i]] = record.TextValue(fields[i+1])
	}
	return it
}

func stream(items []match.Item) iter.Seq2[match.Item, error] {
	return func(yield func(match.Item, error) bool) {
		for _, it := range items {
			if !yield(it, nil) {
				return
			}
		}
	}
}

func cluster(t *testing.T, limits match.Limits, items ...match.Item) *match.Report {
	t.Helper()
	r, err := rules().Cluster(limits, stream(items))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestKeys(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long name ", 40)
	r := match.Rules{
		{Name: "both", Strong: true, Parts: []match.Part{{Field: "name", Normaliser: "company"}, {Field: "zip", Normaliser: "postcode"}}},
		{Name: "id", Parts: []match.Part{{Field: "id", Normaliser: "exact"}}},
	}
	number, err := record.ParseNumber("10115")
	if err != nil {
		t.Fatal(err)
	}
	list, err := record.StructureValue([]any{"a"})
	if err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		fields map[string]record.Value
		want   []string
	}{
		{map[string]record.Value{"name": record.TextValue("Acme Inc"), "zip": number}, []string{"both acme|10115"}},
		{map[string]record.Value{"name": record.TextValue("Acme Inc")}, nil},
		{map[string]record.Value{"name": record.NullValue(), "zip": number, "id": list}, nil},
		{map[string]record.Value{"id": record.TextValue("A-7")}, []string{"id A-7"}},
		{map[string]record.Value{"id": record.TextValue("a|b")}, []string{"id #"}},
		{map[string]record.Value{"id": record.TextValue("a\x00b")}, []string{"id #"}},
		{map[string]record.Value{"id": record.TextValue(long)}, []string{"id #"}},
		{map[string]record.Value{"id": record.TextValue("#1")}, []string{"id #"}},
	}
	for _, row := range rows {
		var got []string
		for _, k := range r.Keys(row.fields) {
			v := k.Value
			if len(v) > 128 {
				t.Errorf("key of %d bytes", len(v))
			}
			if strings.HasPrefix(v, "#") && len(v) == 33 {
				v = "#"
			}
			got = append(got, k.Rule+" "+v)
			if k.Strong != (k.Rule == "both") {
				t.Errorf("%s strong %v", k.Rule, k.Strong)
			}
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%v gives %q, want %q", row.fields, got, row.want)
		}
	}
	a := r.Keys(map[string]record.Value{"id": record.TextValue(long + "a")})
	b := r.Keys(map[string]record.Value{"id": record.TextValue(long + "b")})
	if a[0].Value == b[0].Value {
		t.Error("two long values have one key")
	}
}

func TestShown(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"DE123456789":                         "DE1…89",
		"acme|20095":                          "a… 2…",
		"muller sohne|DE":                     "mul…ne D…",
		"#0123456789abcdef0123456789abcdef":   "#01234567",
		"#0123456789abcdef0123456789abcdef|x": "#01234567 x…",
	} {
		if got := (match.Key{Value: value}).Shown(); got != want {
			t.Errorf("%s is shown as %q, want %q", value, got, want)
		}
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	claim := func(rule string, strong bool, ids ...record.ID) match.Claim {
		return match.Claim{Key: match.Key{Rule: rule, Strong: strong, Value: "value-of-" + rule}, IDs: ids}
	}
	rows := []struct {
		name    string
		claims  []match.Claim
		outcome match.Outcome
		id      record.ID
		order   []record.ID
	}{
		{"nothing", nil, match.Create, "", nil},
		{"keys that nobody claims", []match.Claim{claim("tax", true), claim("name", false)}, match.Create, "", nil},
		{"one strong", []match.Claim{claim("tax", true, "customer/a")}, match.Link, "customer/a", []record.ID{"customer/a"}},
		{"two strong keys, one record", []match.Claim{claim("tax", true, "customer/a"), claim("mail", true, "customer/a")}, match.Link, "customer/a", []record.ID{"customer/a"}},
		{"two strong keys, two records", []match.Claim{claim("tax", true, "customer/b"), claim("mail", true, "customer/a")}, match.Ambiguous, "", []record.ID{"customer/a", "customer/b"}},
		{"one strong key, two records", []match.Claim{claim("tax", true, "customer/b", "customer/a")}, match.Ambiguous, "", []record.ID{"customer/a", "customer/b"}},
		{"one weak", []match.Claim{claim("name", false, "customer/a")}, match.Ambiguous, "", []record.ID{"customer/a"}},
		{"a weak key elsewhere does not stop a strong one", []match.Claim{claim("name", false, "customer/a"), claim("phone", false, "customer/a"), claim("tax", true, "customer/b")}, match.Link, "customer/b", []record.ID{"customer/b", "customer/a"}},
		{"more evidence first", []match.Claim{claim("name", false, "customer/a", "customer/b"), claim("phone", false, "customer/b")}, match.Ambiguous, "", []record.ID{"customer/b", "customer/a"}},
	}
	for _, r := range rows {
		want := match.Decide(r.claims)
		if want.Outcome != r.outcome || want.ID != r.id {
			t.Errorf("%s: %s %s, want %s %s", r.name, want.Outcome, want.ID, r.outcome, r.id)
		}
		var order []record.ID
		for _, c := range want.Candidates {
			order = append(order, c.ID)
			for _, e := range c.Evidence {
				if strings.Contains(e.Shown, "value-of") {
					t.Errorf("%s: evidence shows the whole key %q", r.name, e.Shown)
				}
			}
		}
		if !slices.Equal(order, r.order) {
			t.Errorf("%s: candidates %v, want %v", r.name, order, r.order)
		}
		backwards := slices.Clone(r.claims)
		slices.Reverse(backwards)
		if got := match.Decide(backwards); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the order of claims matters", r.name)
		}
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	r := cluster(t, match.Limits{},
		item("netsuite", "1", "taxId", "DE123456789", "name", "Acme GmbH", "country", "DE"),
		item("salesforce", "2", "taxId", "123 456 789", "country", "Germany", "email", "a@acme.de"),
		item("zendesk", "3", "email", "A@acme.de"),
		item("netsuite", "4", "taxId", "DE222222223"), // twice on one platform
		item("netsuite", "5", "taxId", "DE222222223"),
		item("zendesk", "6", "name", "Acme", "country", "DE"), // only a weak key to the first
		item("servicenow", "7", "name", "Alone", "country", "DE"),
		item("netsuite", "8", "external", "customer/x", "email", "x@x.de"), // linked to different records already
		item("zendesk", "9", "external", "customer/y", "email", "x@x.de"),
		item("netsuite", "10", "external", "customer/z"), // linked already
		item("salesforce", "11", "external", "customer/z"),
	)
	want := map[string]string{
		"netsuite/customer/1":   "link  3",
		"netsuite/customer/4":   "ambiguous several records of one platform 2",
		"zendesk/customer/6":    "ambiguous shares only weak keys with others 1",
		"servicenow/customer/7": "create  1",
		"netsuite/customer/8":   "ambiguous linked to different records already 2",
		"netsuite/customer/10":  "link  2",
	}
	for _, c := range r.Clusters {
		first := c.Members[0].String()
		if got := fmt.Sprintf("%s %s %d", c.Outcome, c.Reason, len(c.Members)); got != want[first] {
			t.Errorf("%s: %s, want %s", first, got, want[first])
		}
		delete(want, first)
	}
	if len(want) > 0 {
		t.Errorf("missing %v", want)
	}
	if r.Items != 11 || r.Matched != 5 || r.Created != 1 || r.Ambiguous != 5 {
		t.Errorf("items %d, matched %d, created %d, ambiguous %d", r.Items, r.Matched, r.Created, r.Ambiguous)
	}
	if r.WeakPairs != 1 || len(r.Pairs) != 1 || r.Pairs[0].Evidence[0].Rule != "name" {
		t.Errorf("pairs %+v", r.Pairs)
	}
	for _, n := range r.Rules {
		if n.Keyed != n.Matched+n.Ambiguous+n.Created+n.Common {
			t.Errorf("%+v does not add up", n)
		}
	}
	if n := r.Rules[1]; n != (match.RuleCount{Rule: "tax", Strong: true, Keyed: 4, Matched: 2, Ambiguous: 2}) {
		t.Errorf("tax: %+v", n)
	}
	for _, c := range r.Clusters {
		if c.External != "" && c.Outcome == match.Link && c.External != "customer/z" {
			t.Errorf("external %s", c.External)
		}
	}
}

// A placeholder that everybody has connects nobody, and is reported.
func TestCommonKey(t *testing.T) {
	t.Parallel()
	var items []match.Item
	for i := range 30 {
		items = append(items, item("zendesk", fmt.Sprint(i), "email", "nobody@acme.de", "phone", "+49 40 1234567"))
	}
	items = append(items, items[0]) // read twice: one item all the same
	r := cluster(t, match.Limits{Block: 29, Samples: 1}, items...)
	if r.Items != 30 || r.Created != 30 || r.CommonKeys != 2 || len(r.Common) != 1 || r.Common[0].Items != 30 || r.WeakPairs != 0 {
		t.Errorf("%+v", r)
	}
	if r = cluster(t, match.Limits{Block: 30}, items...); r.Ambiguous != 30 || r.CommonKeys != 0 {
		t.Errorf("%+v", r)
	}
}

func TestPairsAreBounded(t *testing.T) {
	t.Parallel()
	var items []match.Item
	for i := range 15 {
		items = append(items, item("zendesk", fmt.Sprint(i), "phone", "+49 40 1234567", "name", "Acme", "country", "DE"))
	}
	r := cluster(t, match.Limits{Samples: 10}, items...)
	if r.WeakPairs != 15*14/2 || len(r.Pairs) != 10 || len(r.Pairs[9].Evidence) != 2 {
		t.Errorf("%d pairs, %d listed, the last with %v", r.WeakPairs, len(r.Pairs), r.Pairs[len(r.Pairs)-1].Evidence)
	}
}

func TestReadError(t *testing.T) {
	t.Parallel()
	broken := errors.New("page 2")
	_, err := rules().Cluster(match.Limits{}, func(yield func(match.Item, error) bool) {
		_ = yield(item("zendesk", "1"), nil) && yield(match.Item{}, broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// The report is a function of the set of items: any order, and any repetition, gives the same.
func TestOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	items, _ := matchtest.Generate(7, 300)
	var all []match.Item
	for it, err := range items {
		if err != nil {
			t.Fatal(err)
		}
		if len(all)%9 == 0 {
			it.External = record.ID(fmt.Sprintf("customer/%d", len(all)%40))
		}
		all = append(all, it)
	}
	limits := match.Limits{Samples: 50, Block: 5}
	want, err := matchtest.Rules().Cluster(limits, stream(all))
	if err != nil {
		t.Fatal(err)
	}
	if want.Matched == 0 || want.Created == 0 || want.Ambiguous == 0 || want.WeakPairs == 0 || want.CommonKeys == 0 {
		t.Fatalf("the data exercise too little: %d %d %d %d %d", want.Matched, want.Created, want.Ambiguous, want.WeakPairs, want.CommonKeys)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		got, err := matchtest.Rules().Cluster(limits, stream(append(all, all[:50]...)))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatal("another order gives another report")
		}
	}
}
