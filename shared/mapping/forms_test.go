package mapping_test

import (
	"encoding/json"
	"testing"

	"sorrel/shared/mapping"
	"sorrel/shared/record"
)

// What each form reads: native JSON → canonical JSON, or the type of the doubt.
func TestFormsRead(t *testing.T) {
	t.Parallel()
	s := wide(t)
	netsuite, _ := s.ByEntity("wide", record.NetSuite)
	salesforce, _ := s.ByEntity("wide", record.Salesforce)
	for _, tc := range []struct {
		m                   *mapping.Mapping
		native, field, want string
	}{
		{netsuite, `{"day":"2026-11-02"}`, "day", `"2026-11-02"`},
		{netsuite, `{"day":"2026-11-02T03:00:00Z"}`, "day", `"2026-11-01"`}, // still the day before in New York
		{netsuite, `{"day":"02.11.2026"}`, "day", mapping.InvalidValue},
		{netsuite, `{"day":20261102}`, "day", mapping.InvalidValue},
		{netsuite, `{"at":"2026-11-02 08:34:00"}`, "at", `"2026-11-02T03:04:00Z"`}, // no offset: the zone is +05:30
		{netsuite, `{"at":"2026-11-02T08:34:00.125Z"}`, "at", `"2026-11-02T08:34:00.125Z"`},
		{netsuite, `{"seconds":"2026-11-02T08:34:00.999Z"}`, "seconds", `"2026-11-02T08:34:00Z"`},
		{netsuite, `{"local":"2026-07-02 10:00:00"}`, "local", `"2026-07-02T08:00:00Z"`},
		{netsuite, `{"local":"never"}`, "local", mapping.InvalidValue},
		{salesforce, `{"At__c":"2026-11-02T08:15:20.123+0000"}`, "at", `"2026-11-02T08:15:20.123Z"`},
		{salesforce, `{"At__c":""}`, "at", `null`},
		{netsuite, `{"flag":"T"}`, "flag", `true`},
		{netsuite, `{"flag":false}`, "flag", `false`},
		{netsuite, `{"flag":"yes"}`, "flag", mapping.InvalidValue},
		{netsuite, `{"flag":{}}`, "flag", mapping.InvalidValue},
		{salesforce, `{"Not__c":true}`, "flag", `false`},
		{netsuite, `{"deep":{"er":{"count":"12.50"}}}`, "count", `12.5`},
		{netsuite, `{"deep":{"er":{"count":"1e99"}}}`, "count", mapping.InvalidValue},
		{netsuite, `{"deep":{"er":7}}`, "count", mapping.InvalidValue},
		{netsuite, `{"plain":" x "}`, "plain", `" x "`},
		{netsuite, `{"plain":7}`, "plain", `"7"`},
		{netsuite, `{"plain":{"id":"7"}}`, "plain", mapping.InvalidValue},
		{netsuite, `{"plain":"` + long(61) + `"}`, "plain", mapping.ContractViolation},
		{netsuite, `{"state":{"id":"N2","refName":"New again"}}`, "state", `"new"`},
		{netsuite, `{"state":"n"}`, "state", mapping.UnknownPicklist},
		{netsuite, `{"state":""}`, "state", `null`},
		{netsuite, `{"book":{"items":[{"billing":false,"address":{"city":"A"}},{"billing":"T","address":{"city":"B"}}]}}`, "billCity", `"B"`},
		{netsuite, `{"book":{"items":[{"billing":true,"address":{"city":null}}]}}`, "billCity", `null`},
		{netsuite, `{"book":{"items":[{"billing":true,"address":{"street":"x"}}]}}`, "billCity", ``},
		{netsuite, `{"book":{"items":[{"shipping":true,"address":{"city":"A"}}]}}`, "billCity", `null`}, // the whole list: there is none
		{netsuite, `{"book":{"items":"none"}}`, "billCity", mapping.InvalidValue},
		{netsuite, `{"names":{"items":[{"name":" a "},{"other":1},{"name":""},"b"]}}`, "names", `["a","b"]`},
		{netsuite, `{"names":{"items":[true]}}`, "names", mapping.InvalidValue},
		{netsuite, `{"names":{"links":[]}}`, "names", ``}, // only a link to it: nothing was said
		{salesforce, `{"Names__c":"a,b\\, c , ,d"}`, "names", `["a","b, c","d"]`},
		{netsuite, `{"rows":{"items":[{"a":{"id":"1","refName":"Tea"},"b":{"value":"2.0"},"c":"F"},{}]}}`, "rows", `[{"a":"Tea","b":2,"c":false}]`},
		{netsuite, `{"rows":{"items":[{"a":"` + long(41) + `"}]}}`, "rows", mapping.ContractViolation},
		{netsuite, `{"rows":{"items":["x"]}}`, "rows", mapping.InvalidValue},
		{salesforce, `{"Rows__c":"Tea \\| \\\\ \\n | 2.50 | true | 2026-01-01 | \r\n\n | 3 | | |"}`, "rows", `[{"a":"Tea | \\","b":2.5,"c":true,"d":"2026-01-01"},{"b":3}]`},
		{salesforce, `{"Rows__c":"Tea | 2"}`, "rows", mapping.InvalidValue},
		{netsuite, `{"parent":[]}`, "up", mapping.InvalidValue},
		{netsuite, `{"parent":{"id":null}}`, "up", `null`},
	} {
		o, _, err := tc.m.Observe(native(t, tc.m, []byte(`{"custbody_note":"x","Note__c":"x",`+tc.native[1:])))
		got := o.Doubts[tc.field].Type
		if v := o.Fields[tc.field]; !v.IsAbsent() {
			b, _ := json.Marshal(v)
			got = string(b)
		}
		if err != nil || got != tc.want {
			t.Errorf("%s %s: %s %v, want %s", tc.native, tc.field, got, err, tc.want)
		}
	}
}

// What each form writes: canonical JSON → native JSON of the whole body, or the type of the hold.
func TestFormsWrite(t *testing.T) {
	t.Parallel()
	s := wide(t)
	netsuite, _ := s.ByEntity("wide", record.NetSuite)
	salesforce, _ := s.ByEntity("wide", record.Salesforce)
	for _, tc := range []struct {
		m                  *mapping.Mapping
		field, value, want string
	}{
		{netsuite, "flag", `true`, `{"flag":"T"}`},
		{salesforce, "flag", `true`, `{"Not__c":false}`},
		{netsuite, "count", `1234567.5`, `{"deep":{"er":{"count":1234567.5}}}`},
		{netsuite, "count", `12345678`, mapping.InvalidValue},
		{netsuite, "count", `-1.25`, mapping.InvalidValue},
		{netsuite, "count", `"1"`, mapping.InvalidValue},
		{netsuite, "local", `"2026-07-02T08:00:00.9Z"`, `{"local":"2026-07-02 10:00:00"}`},
		{netsuite, "seconds", `"2026-07-02T08:00:00.9Z"`, `{"seconds":"2026-07-02T08:00:00Z"}`},
		{salesforce, "at", `"2026-07-02T08:00:00.1239Z"`, `{"At__c":"2026-07-02T08:00:00.123Z"}`},
		{netsuite, "state", `"new"`, `{"state":"N"}`},
		{salesforce, "state", `"done"`, `{"State__c":"Open"}`},
		{salesforce, "state", `"void"`, mapping.UnknownPicklist},
		{salesforce, "short", `"x"`, `{"Box":{"Copy__c":"x"},"Copy__c":"x","Short__c":"x"}`},
		{salesforce, "short", `null`, `{"Box":{"Copy__c":null},"Copy__c":null,"Short__c":null}`},
		{netsuite, "short", `" 12345 "`, `{"deep":{"short":"12345"}}`},
		{netsuite, "short", `"123456"`, mapping.InvalidValue},
		{netsuite, "names", `["a"," b "]`, `{"names":{"items":[{"name":"a"},{"name":"b"}]}}`},
		{salesforce, "names", `["a","b, c"]`, `{"Names__c":"a, b\\, c"}`},
		{salesforce, "names", `[]`, `{"Names__c":null}`},
		{salesforce, "rows", `[{"a":"x|y","b":14},{},{"c":false}]`, `{"Rows__c":"x\\|y | 14.00 |  |  | \n |  | false |  | "}`},
		{netsuite, "rows", `[{"a":" x ","b":14}]`, `{"rows":{"items":[{"a":"x","b":{"value":14}}]}}`},
		{netsuite, "rows", `[{"b":"many"}]`, mapping.InvalidValue},
		{netsuite, "up", `"wide/1"`, `{"parentRef":{"externalId":"wide-1"}}`},
		{netsuite, "up", `null`, `{"parent":null}`},
		{salesforce, "up", `"wide/1"`, `{"Up__c":"nwide-1"}`},
		{salesforce, "up", `"nonsense"`, mapping.InvalidValue},
	} {
		v, err := record.ParseJSON([]byte(tc.value))
		if err != nil {
			t.Fatal(err)
		}
		body, held, err := tc.m.Write(map[string]record.Value{tc.field: v}, false, everyone)
		got := held[tc.field].Type
		if got == "" {
			b, _ := json.Marshal(body)
			got = string(b)
		}
		if err != nil || got != tc.want {
			t.Errorf("%s %s: %s %v, want %s", tc.field, tc.value, got, err, tc.want)
		}
	}
	// All fields of one chosen element come together, elements in the order of their fields; a list that tells only
	// what was written says nothing about an element that it lacks.
	body, _, err := netsuite.Write(map[string]record.Value{"shipCity": record.NullValue(), "billStreet": record.TextValue("Rue 1"), "billCity": record.TextValue("Bern")}, false, everyone)
	got, _ := json.Marshal(body)
	if want := `{"book":{"items":[{"address":{"city":"Bern","street":"Rue 1"},"billing":true,"copy":"Rue 1"},{"address":{"city":null},"shipping":true}]}}`; err != nil || string(got) != want {
		t.Errorf("chosen elements: %s %v, want %s", got, err, want)
	}
	part := native(t, netsuite, []byte(`{"book":{"items":[{"billing":true,"address":{"city":"Bern"}}]}}`))
	part.Partial = true
	o, _, err := netsuite.Observe(part)
	if v, said := o.Fields["shipCity"]; err != nil || said || o.Fields["billCity"] != record.TextValue("Bern") {
		t.Errorf("a partial list: shipCity %v said %v, billCity %v, %v", v, said, o.Fields["billCity"], err)
	}
	body, _, err = salesforce.Write(map[string]record.Value{"plain": record.TextValue("x")}, true, everyone)
	got, _ = json.Marshal(body)
	if err != nil || string(got) != `{"Kind__c":"wide","On__c":true,"Plain__c":"x","Rank__c":7}` {
		t.Errorf("create: %s %v", got, err)
	}
}

func long(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'x'
	}
	return string(b)
}
