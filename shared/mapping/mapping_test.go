package mapping_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"sorrel/shared/fault"
	"sorrel/shared/mapping"
	"sorrel/shared/policy"
	"sorrel/shared/record"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func native(t testing.TB, m *mapping.Mapping, data []byte) record.Native {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	n := record.Native{Ref: record.Ref{Platform: m.Platform, Object: m.Object, ID: "1"}, Version: record.Version{At: time.Unix(1, 0)}, External: "x"}
	if err := dec.Decode(&n.Fields); err != nil {
		t.Fatal(err)
	}
	return n
}

// golden is what one native record means, and what writing that back would look like.
type golden struct {
	Observed map[string]record.Value
	Refs     map[string]string      `json:",omitempty"`
	Doubts   map[string][]string    `json:",omitempty"`
	Written  map[string]any         // as a create
	Held     map[string]record.Hold `json:",omitempty"`
	Refused  string                 `json:",omitempty"`
}

func TestGolden(t *testing.T) {
	t.Parallel()
	each(t, load(t), func(t *testing.T, _ *policy.Set, m *mapping.Mapping) {
		base := filepath.Join("testdata", "golden", m.Platform+"."+m.Entity)
		data, err := os.ReadFile(base + ".native.json")
		if err != nil {
			t.Fatal(err)
		}
		o, refs, err := m.Observe(native(t, m, data))
		if err != nil {
			t.Fatal(err)
		}
		g := golden{Observed: o.Fields, Refs: map[string]string{}, Doubts: map[string][]string{}}
		fields := map[string]record.Value{}
		for f, v := range o.Fields {
			if _, _, out := m.Native(f); out {
				fields[f] = v
			}
		}
		for f, r := range refs {
			g.Refs[f] = r.String()
			if _, _, out := m.Native(f); out {
				fields[f] = record.TextValue("customer/abc")
			}
		}
		for f, d := range o.Doubts {
			g.Doubts[f] = []string{d.Type, d.Detail, d.Raw}
		}
		body, held, err := m.Write(fields, true, everyone)
		if err != nil {
			g.Refused = err.Error()
		}
		g.Written, g.Held = body, held
		var got bytes.Buffer
		enc := json.NewEncoder(&got)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(g); err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(base+".golden.json", got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(base + ".golden.json")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("differs from %s.golden.json; run go test ./shared/mapping -update and read the difference\n%s", base, got.String())
		}
	})
}

func find(t testing.TB, entity, platform string) *mapping.Mapping {
	t.Helper()
	m, ok := load(t).ByEntity(entity, platform)
	if !ok {
		t.Fatalf("no mapping of %s on %s", entity, platform)
	}
	return m
}

func TestAbsentNullAndValueStayApart(t *testing.T) {
	t.Parallel()
	m := find(t, "order", record.NetSuite)
	for text, want := range map[string]string{
		`{"tranId":"1"}`: "(absent)", `{"memo":null,"shippingAddress":{}}`: "(absent)", `{"shippingAddress":null}`: "(null)",
		`{"shippingAddress":{"city":null}}`: "(null)", `{"shippingAddress":{"city":"  "}}`: "(null)", `{"shippingAddress":{"city":" Ärö "}}`: "Ärö",
	} {
		o, _, err := m.Observe(native(t, m, []byte(text)))
		if err != nil || o.Fields["shippingAddress.city"].String() != want {
			t.Errorf("%s: %v %v, want %s", text, o.Fields["shippingAddress.city"], err, want)
		}
	}
	o, refs, err := m.Observe(native(t, m, []byte(`{"entity":null}`)))
	if err != nil || !o.Fields["customer"].IsNull() || len(refs) != 0 {
		t.Errorf("null reference: %v %v %v", o.Fields, refs, err)
	}
	body, _, err := m.Write(map[string]record.Value{"memo": record.NullValue(), "poNumber": {}}, false, everyone)
	if v, there := body["memo"]; err != nil || !there || v != nil || len(body) != 1 {
		t.Errorf("clearing: %v %v", body, err)
	}
}

func TestObserveRefusesWhatSaysNothing(t *testing.T) {
	t.Parallel()
	m := find(t, "order", record.Salesforce)
	good := native(t, m, []byte(`{"PoNumber":"1"}`))
	for name, spoil := range map[string]func(*record.Native){
		"hint":          func(n *record.Native) { n.Fields = nil },
		"no version":    func(n *record.Native) { n.Version = record.Version{} },
		"nothing known": func(n *record.Native) { n.Fields = map[string]any{"x": 1} },
		"other object":  func(n *record.Native) { n.Object = "Account" },
	} {
		n := good
		spoil(&n)
		if _, _, err := m.Observe(n); err == nil {
			t.Errorf("%s: observed", name)
		}
	}
	n := good
	n.Fields, n.Partial = map[string]any{"x": 1}, true
	if o, _, err := m.Observe(n); err != nil || len(o.Fields) != 0 {
		t.Errorf("a partial native without mapped fields: %v %v", o, err)
	}
	n.Gone, n.Fields = true, nil
	if o, _, err := m.Observe(n); err != nil || !o.Gone {
		t.Errorf("a tombstone: %v %v", o, err)
	}
}

func TestWriteHoldsWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	m := find(t, "order", record.Salesforce)
	nobody := func(string, record.ID) (mapping.Target, bool) { return mapping.Target{}, false }
	body, held, err := m.Write(map[string]record.Value{
		"status":                    record.TextValue("teleported"),
		"shippingAddress.city":      record.TextValue(strings.Repeat("ä", 41)),
		"total":                     record.NumberValue(decimal.New(12345, -3)),
		"customer":                  record.TextValue("customer/abc"),
		"number":                    record.TextValue("10248"),
		"shippingAddress.addressee": record.TextValue("nobody there"),
	}, false, nobody)
	if err != nil || len(body) != 1 || body["ERP_Order_Number__c"] != "10248" {
		t.Errorf("body %v %v", body, err)
	}
	for f, want := range map[string]string{"status": mapping.UnknownPicklist, "shippingAddress.city": mapping.InvalidValue, "total": mapping.InvalidValue,
		"customer": mapping.MissingReference, "shippingAddress.addressee": mapping.ContractViolation} {
		if held[f].Type != want || held[f].Value.IsAbsent() || !strings.Contains(held[f].Detail, f) {
			t.Errorf("%s: %+v, want %s", f, held[f], want)
		}
	}
	if _, _, err := m.Write(map[string]record.Value{"placedOn": record.TextValue("2026-01-01"), "customer": record.TextValue("customer/abc")}, true, nobody); !fault.Is(err, fault.MissingReference) {
		t.Errorf("an order before its customer: %v", err)
	}
	if _, _, err := m.Write(map[string]record.Value{"customer": record.TextValue("customer/abc")}, true, everyone); !fault.Is(err, fault.Contract) || !strings.Contains(err.Error(), "placedOn") {
		t.Errorf("an order without its date: %v", err)
	}
	if got := m.As("shippingAddress.city", record.TextValue(strings.Repeat("ä", 41))).Raw(); len(got) != 82 {
		t.Errorf("a value that does not fit was cut to %q", got)
	}
}

func TestReferencesByRelationAndByNativeID(t *testing.T) {
	t.Parallel()
	fields := map[string]record.Value{"customer": record.TextValue("customer/abc")}
	for platform, want := range map[string]string{
		record.Salesforce: `{"Account":{"Sorrel_Id__c":"customer-abc"}}`,
		record.Zendesk:    `{"custom_object_fields":{"organization":"ncustomer-abc"}}`,
		record.NetSuite:   `{"entity":{"id":"ncustomer-abc"}}`,
	} {
		body, held, err := find(t, "order", platform).Write(fields, false, everyone)
		got, _ := json.Marshal(body)
		if err != nil || len(held) > 0 || string(got) != want {
			t.Errorf("%s: %s %v %v", platform, got, held, err)
		}
	}
	body, _, err := find(t, "order", record.Salesforce).Write(map[string]record.Value{"memo": record.NullValue(), "customer": record.NullValue()}, false, everyone)
	if err != nil || len(body) != 1 { // the customer is required there and cannot be cleared
		t.Errorf("clearing a required reference: %v %v", body, err)
	}
}

func TestCanonicalUnderstandsVendorNames(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ entity, platform, native, want string }{
		{"order", record.Salesforce, "ERP_Status__c", "status"},
		{"order", record.Salesforce, "AccountId", "customer"},
		{"order", record.Salesforce, "Account", "customer"},
		{"order", record.Salesforce, "Sorrel_Id__c", ""}, // the order's own external id, not the customer's
		{"shipment", record.Salesforce, "Name", "number"},
		{"order", record.Zendesk, "status", "status"},
		{"order", record.NetSuite, "item.items[1].rate", "lines"},
		{"order", record.NetSuite, "itemized", ""},
	} {
		if got := strings.Join(find(t, tc.entity, tc.platform).Canonical([]string{tc.native, "nonsense"}), " "); got != tc.want {
			t.Errorf("%s on %s means %q, want %q", tc.native, tc.platform, got, tc.want)
		}
	}
}

func FuzzObserve(f *testing.F) {
	files, _ := filepath.Glob("testdata/golden/*.native.json")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"item":{"items":[[1]]},"entity":[],"orderStatus":{},"shippingAddress":"x","ERP_Lines__c":"a\\|b|","tranDate":1e99}`))
	s := load(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		var fields map[string]any
		if dec.Decode(&fields) != nil || fields == nil {
			return
		}
		for _, p := range s.Platforms() {
			for _, object := range s.Objects(p) {
				m, _ := s.ByObject(p, object)
				o, _, err := m.Observe(record.Native{Ref: record.Ref{Platform: p, Object: object, ID: "1"}, Version: record.Version{At: time.Unix(1, 0)}, Fields: fields, Partial: true})
				if err != nil {
					t.Fatal(err)
				}
				out := map[string]record.Value{}
				for field, v := range o.Fields {
					if err := s.Contract(m.Entity).Check(field, v); err != nil {
						t.Fatalf("observed what the contract refuses: %v", err)
					}
					if as := m.As(field, v); m.As(field, as) != as {
						t.Fatalf("%s: As(As(%v)) = %v, not %v", field, v, m.As(field, as), as)
					}
					if _, _, written := m.Native(field); written {
						out[field] = v
					}
				}
				if body, _, err := m.Write(out, false, everyone); err != nil {
					t.Fatal(err)
				} else if _, err := json.Marshal(body); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	m := find(b, "order", record.NetSuite)
	data, err := os.ReadFile("testdata/golden/netsuite.order.native.json")
	if err != nil {
		b.Fatal(err)
	}
	n := native(b, m, data)
	b.ReportAllocs()
	for b.Loop() {
		if o, _, err := m.Observe(n); err != nil || len(o.Doubts) > 0 {
			b.Fatal(err, o.Doubts)
		}
	}
}

// BenchmarkAs is one projection of an order: every field of it, once.
func BenchmarkAs(b *testing.B) {
	in, out := find(b, "order", record.NetSuite), find(b, "order", record.Salesforce)
	data, err := os.ReadFile("testdata/golden/netsuite.order.native.json")
	if err != nil {
		b.Fatal(err)
	}
	o, _, err := in.Observe(native(b, in, data))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		for f, v := range o.Fields {
			if out.As(f, v).IsAbsent() {
				b.Fatal(f)
			}
		}
	}
}

// Where the external id is not known to be on the native record, its native id says which it is.
func TestReferenceIsWrittenByWhatIsKnown(t *testing.T) {
	t.Parallel()
	m := find(t, "order", record.Salesforce)
	for want, to := range map[string]mapping.Target{
		`map[Account:map[Sorrel_Id__c:customer-abc]]`: {NativeID: "001x", External: "customer-abc"},
		`map[AccountId:001x]`:                         {NativeID: "001x"},
	} {
		body, held, err := m.Write(map[string]record.Value{"customer": record.TextValue("customer/abc")}, false,
			func(string, record.ID) (mapping.Target, bool) { return to, true })
		if got := fmt.Sprint(body); err != nil || len(held) > 0 || got != want {
			t.Errorf("%s, held %v (%v), want %s", got, held, err, want)
		}
	}
}

// The ids of a list's values differ by account: a label is what people read, of a value whose label is not said the id, and
// it can only be read.
func TestEnumByLabel(t *testing.T) {
	t.Parallel()
	m := find(t, "contract", record.NetSuite)
	for _, tc := range []struct {
		said any
		want string
	}{
		{map[string]any{"id": "2", "refName": "Active"}, "active"}, {map[string]any{"id": "17", "refName": "Active"}, "active"}, {map[string]any{"id": "Active"}, "active"},
		{"Expired", "expired"}, {map[string]any{"id": "Active", "refName": "Asleep"}, ""}, {map[string]any{"id": "2"}, ""}, {true, ""},
	} {
		n := record.Native{Ref: record.Ref{Platform: record.NetSuite, Object: "customrecord_sorrel_contract", ID: "1"}, Version: record.Version{At: time.Unix(1, 0)}, Partial: true,
			Fields: map[string]any{"custrecord_sorrel_contract_status": tc.said}}
		o, _, err := m.Observe(n)
		if _, doubted := o.Doubts["status"]; err != nil || doubted != (tc.want == "") || o.Fields["status"].Raw() != tc.want {
			t.Errorf("%v gives %q, %v, %v", tc.said, o.Fields["status"].Raw(), o.Doubts, err)
		}
	}
	if _, _, out := m.Native("status"); out {
		t.Error("a label is written")
	}
}

// An excerpt is the beginning of a text of any length, shows that there was more, and can only be read.
func TestExcerpt(t *testing.T) {
	t.Parallel()
	m := find(t, "case", record.Zendesk)
	for said, want := range map[string]string{
		"  Pump alarm \n": "Pump alarm", "": "", strings.Repeat("ä", 255): strings.Repeat("ä", 255),
		strings.Repeat("ä", 256): strings.Repeat("ä", 254) + "…", strings.Repeat("a", 250) + "      b": strings.Repeat("a", 250) + "…",
	} {
		n := record.Native{Ref: record.Ref{Platform: record.Zendesk, Object: "ticket", ID: "1"}, Version: record.Version{At: time.Unix(1, 0)}, Partial: true, Fields: map[string]any{"subject": said}}
		o, _, err := m.Observe(n)
		if err != nil || len(o.Doubts) > 0 || o.Fields["subject"].Raw() != want {
			t.Errorf("%q gives %q, %v, %v", said, o.Fields["subject"].Raw(), o.Doubts, err)
		}
	}
	if _, _, out := m.Native("subject"); out {
		t.Error("an excerpt is written")
	}
}
