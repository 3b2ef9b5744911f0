package salesforcetwin

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/shopspring/decimal"
)

// restTime is how REST says a date-time. SystemModstamp has whole seconds, as everywhere in Salesforce.
const restTime = "2006-01-02T15:04:05.000-0700"

// row is one record. Values hold only what is set: text, json.Number or bool.
type row struct {
	o                    *object
	id                   string // 18 characters
	values               map[string]any
	created, stamp       time.Time
	createdBy, changedBy string
	deleted              bool
	under                *row // whose deletion took this one along
	logged               int  // index of its newest entry in o.log
}

type stamp struct {
	at time.Time
	id string // 15 characters
}

// value of any field, the platform's own included; nil = empty.
func (r *row) value(f *Field) any {
	switch f.Name {
	case "Id":
		return r.id
	case "IsDeleted":
		return r.deleted
	case "CreatedDate":
		return r.created.Format(restTime)
	case "CreatedById":
		return r.createdBy
	case "LastModifiedDate", "SystemModstamp":
		return r.stamp.Format(restTime)
	case "LastModifiedById":
		return r.changedBy
	}
	if f.Compound {
		return r.fullName()
	}
	v := r.values[f.Name]
	if v == nil && f.Type == typeBoolean {
		return false
	}
	return v
}

// fullName is the compound Name of a person.
// https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_contact.htm
func (r *row) fullName() any {
	var parts []string
	for _, n := range []string{"FirstName", "LastName"} {
		if s, ok := r.values[n].(string); ok {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, " ")
}

// rest is the whole record in REST's shape.
func (r *row) rest(base string) map[string]any {
	m := map[string]any{}
	if base != "" {
		m["attributes"] = r.attributes(base)
	}
	for _, n := range r.o.names {
		m[n] = r.value(r.o.field(n))
	}
	return m
}

func (r *row) attributes(base string) map[string]string {
	return map[string]string{"type": r.o.name, "url": base + "/sobjects/" + r.o.name + "/" + r.id}
}

// apiError is one of the vendor's errors. decoding marks those found before any record is looked at: in a
// collection they fail the whole call.
type apiError struct {
	status   int
	code     string
	message  string
	fields   []string
	decoding bool
	choices  []string // status 300
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func bad(code, message string, fields ...string) *apiError {
	return &apiError{status: http.StatusBadRequest, code: code, message: message, fields: fields}
}

func undecodable(code, message string) *apiError {
	return &apiError{status: http.StatusBadRequest, code: code, message: message, decoding: true}
}

func missing() *apiError {
	return &apiError{status: http.StatusNotFound, code: "NOT_FOUND", message: "The requested resource does not exist"}
}

func gone() *apiError {
	return &apiError{status: http.StatusNotFound, code: "ENTITY_IS_DELETED", message: "entity is deleted"}
}

// change is what one save did to one record.
type change struct {
	r      *row
	kind   string // CREATE, UPDATE, DELETE, UNDELETE
	fields []string
	values map[string]any // of fields, after the change
	quiet  bool           // no trigger runs, so no Outbound Message leaves
}

// tx is one transaction: all of its changes have one commit, and can be undone together. The twin is locked
// from begin to commit or rollback.
type tx struct {
	t       *Twin
	at      time.Time // whole seconds
	origin  string
	user    string
	assigns bool // assignment rules run: by REST, unless a call says otherwise
	undo    []func()
	changes []change
}

func (t *Twin) begin(origin, user string) *tx {
	if now := t.opts.Now().UTC(); now.After(t.latest) {
		t.latest = now
	}
	return &tx{t: t, at: t.latest.Truncate(time.Second), origin: origin, user: user}
}

// savepoint undoes everything after it when called.
func (x *tx) savepoint() func() {
	undo, changes := len(x.undo), len(x.changes)
	return func() {
		for i := len(x.undo) - 1; i >= undo; i-- {
			x.undo[i]()
		}
		x.undo, x.changes = x.undo[:undo], x.changes[:changes]
	}
}

func (x *tx) create(o *object, given map[string]any, external *Field, externalValue string) (*row, *apiError) {
	set, err := x.check(o, given)
	if err != nil {
		return nil, err
	}
	if external != nil {
		set[external.Name] = externalValue
	}
	for _, n := range o.names {
		if f := o.field(n); f.Default != nil {
			if _, said := set[f.Name]; !said {
				set[f.Name] = f.Default
			}
		}
	}
	if o.name == "Order" {
		if status, said := set["Status"]; said && status != nil && status != "Draft" {
			return nil, bad("FAILED_ACTIVATION", "Choose a valid order status and save your changes. Ask your Salesforce admin for help.", "Status")
		}
	}
	var lacking []string
	for _, n := range o.names {
		if f := o.field(n); f.Required && set[f.Name] == nil {
			lacking = append(lacking, f.Name)
		}
	}
	if len(lacking) > 0 {
		return nil, bad("REQUIRED_FIELD_MISSING", fmt.Sprintf("Required fields are missing: [%s]", strings.Join(lacking, ", ")), lacking...)
	}
	x.t.serial++
	r := &row{o: o, id: fullID(o.prefix, x.t.serial), values: map[string]any{}, created: x.at, createdBy: x.user, logged: -1}
	if o.name == "Order" {
		set["OrderNumber"] = fmt.Sprintf("%08d", x.t.serial)
	}
	if strings.HasSuffix(o.name, "__c") && set["Name"] == nil {
		set["Name"] = r.id
	}
	if o.field("OwnerId") != nil && set["OwnerId"] == nil {
		set["OwnerId"] = x.user
	}
	x.assign(o, set)
	staged(o, set)
	if err := x.unique(r, set); err != nil {
		return nil, err
	}
	if err := x.priced(r, set, true); err != nil {
		return nil, err
	}
	key := r.id[:15]
	o.rows[key] = r
	o.ids = append(o.ids, r) // serial numbers only rise
	x.undo = append(x.undo, func() { delete(o.rows, key); o.ids = o.ids[:len(o.ids)-1] })
	x.save(r, set, "CREATE")
	return r, nil
}

func (x *tx) update(r *row, given map[string]any) *apiError {
	if r.deleted {
		return gone()
	}
	set, err := x.check(r.o, given)
	if err != nil {
		return err
	}
	for name, v := range set {
		if f := r.o.field(name); f.Required && v == nil {
			return bad("REQUIRED_FIELD_MISSING", fmt.Sprintf("Required fields are missing: [%s]", f.Name), f.Name)
		}
	}
	x.assign(r.o, set)
	staged(r.o, set)
	if err := x.unique(r, set); err != nil {
		return err
	}
	if err := x.priced(r, set, false); err != nil {
		return err
	}
	x.save(r, set, "UPDATE")
	return nil
}

// assign gives a case to the default case owner, even where no assignment rule is active.
// https://help.salesforce.com/s/articleView?id=000395506&type=1
func (x *tx) assign(o *object, set map[string]any) {
	if o.name == "Case" && x.assigns {
		set["OwnerId"] = DefaultCaseOwner
	}
}

// staged adds what a stage brings along. A probability that is said together with it stays.
func staged(o *object, set map[string]any) {
	stage, said := set["StageName"].(string)
	if o.name != "Opportunity" || !said {
		return
	}
	_, probability := stages()
	if percent, known := probability[stage]; known && set["Probability"] == nil {
		set["Probability"] = number(o.field("Probability"), decimal.NewFromInt(int64(percent)))
	}
	set["IsClosed"], set["IsWon"] = stage == wonStage || stage == lostStage, stage == wonStage
}

func (x *tx) delete(r *row) *apiError {
	if r.deleted {
		return gone()
	}
	x.save(r, nil, "DELETE")
	for _, child := range x.t.children(r) {
		if !child.deleted {
			if err := x.delete(child); err != nil {
				return err
			}
			child.under = r
		}
	}
	return nil
}

// children that are deleted with their parent. Those of a parent that is merged away go to the winner instead.
// https://developer.salesforce.com/docs/atlas.en-us.apexcode.meta/apexcode/langCon_apex_dml_examples_delete.htm
func (t *Twin) children(parent *row) []*row {
	var all []*row
	for _, name := range slices.Sorted(maps.Keys(t.objects)) {
		o := t.objects[name]
		for _, n := range o.names {
			if f := o.field(n); !f.Cascades || !f.refers(parent.o.name) {
				continue
			}
			for _, r := range o.since(time.Time{}) {
				if r.values[n] == parent.id {
					all = append(all, r)
				}
			}
		}
	}
	return all
}

func (x *tx) undelete(r *row) *apiError {
	if !r.deleted {
		return bad("UNDELETE_FAILED", "Entity is not in the recycle bin")
	}
	if err := x.unique(r, r.values); err != nil {
		return err
	}
	x.save(r, map[string]any{"MasterRecordId": nil}, "UNDELETE")
	for _, child := range x.t.children(r) {
		if child.deleted && child.under == r {
			if err := x.undelete(child); err != nil {
				return err
			}
		}
	}
	return nil
}

// merge deletes loser in favour of winner, which keeps its own values, and gives winner the children. Children
// are saved without their triggers.
// https://developer.salesforce.com/docs/atlas.en-us.apexcode.meta/apexcode/apex_triggers_merge_statements.htm
func (x *tx) merge(winner, loser *row) *apiError {
	switch {
	case winner.o.field("MasterRecordId") == nil || winner.o != loser.o:
		return bad("INVALID_OPERATION", "only two accounts or two contacts can be merged")
	case winner == loser:
		return bad("INVALID_OPERATION", "a record cannot be merged with itself")
	case winner.deleted || loser.deleted:
		return gone()
	}
	x.save(loser, map[string]any{"MasterRecordId": winner.id}, "DELETE")
	for _, name := range slices.Sorted(maps.Keys(x.t.objects)) {
		o := x.t.objects[name]
		for _, child := range o.since(time.Time{}) {
			set := map[string]any{}
			for _, n := range o.names {
				if f := o.field(n); f.refers(winner.o.name) && f.Name != "MasterRecordId" && child.values[n] == loser.id {
					set[n] = winner.id
					if child == winner {
						set[n] = nil
					}
				}
			}
			if len(set) > 0 && !child.deleted {
				x.save(child, set, "UPDATE")
				x.changes[len(x.changes)-1].quiet = true
			}
		}
	}
	x.save(winner, nil, "UPDATE")
	return nil
}

// save applies checked values. A save that changes nothing still moves SystemModstamp.
func (x *tx) save(r *row, set map[string]any, kind string) {
	old := *r
	logged := len(r.o.log)
	x.unindex(r)
	r.values = maps.Clone(r.values)
	c := change{r: r, kind: kind, values: map[string]any{}}
	for _, n := range r.o.names {
		v, said := set[n]
		if said && r.values[n] != v {
			c.fields = append(c.fields, n)
		}
		if said && v == nil {
			delete(r.values, n)
		} else if said {
			r.values[n] = v
		}
	}
	r.stamp, r.changedBy, r.deleted, r.under = x.at, x.user, kind == "DELETE", nil
	r.logged = logged
	r.o.log = append(r.o.log, stamp{x.at, r.id[:15]})
	x.index(r)
	if kind == "CREATE" || kind == "UNDELETE" {
		c.fields = slices.DeleteFunc(slices.Clone(r.o.names), func(n string) bool {
			return n == "Id" || n == "IsDeleted" || n == "SystemModstamp" || r.o.field(n).Compound
		})
	}
	for _, n := range c.fields {
		c.values[n] = r.value(r.o.field(n))
	}
	x.changes = append(x.changes, c)
	x.undo = append(x.undo, func() {
		x.unindex(r)
		*r = old
		r.o.log = r.o.log[:logged]
		if r.logged >= 0 {
			x.index(r)
		}
	})
}

func (x *tx) index(r *row) {
	if r.deleted {
		return
	}
	for name, values := range r.o.index {
		if v, ok := r.values[name].(string); ok {
			values[strings.ToLower(v)] = append(values[strings.ToLower(v)], r)
		}
	}
}

func (x *tx) unindex(r *row) {
	for name, values := range r.o.index {
		v, ok := r.values[name].(string)
		if !ok {
			continue
		}
		key := strings.ToLower(v)
		if rest := slices.DeleteFunc(values[key], func(o *row) bool { return o == r }); len(rest) > 0 {
			values[key] = rest
		} else {
			delete(values, key)
		}
	}
}

// unique checks that no other live record holds r's external ids.
func (x *tx) unique(r *row, set map[string]any) *apiError {
	for name, values := range r.o.index {
		v, ok := set[name].(string)
		if !ok || r.o.field(name).Repeats {
			continue
		}
		for _, other := range values[strings.ToLower(v)] {
			if other != r {
				return bad("DUPLICATE_VALUE", fmt.Sprintf("duplicate value found: %s duplicates value on record with id: %s", name, other.id))
			}
		}
	}
	return nil
}

// check turns the given JSON into values by field name, or says what is wrong as the vendor does.
func (x *tx) check(o *object, given map[string]any) (map[string]any, *apiError) {
	set := make(map[string]any, len(given))
	for _, name := range slices.Sorted(maps.Keys(given)) {
		v := given[name]
		if strings.EqualFold(name, "attributes") {
			continue
		}
		if f := o.parent[strings.ToLower(name)]; f != nil {
			id, err := x.parent(f, v)
			if err != nil {
				return nil, err
			}
			set[f.Name] = id
			continue
		}
		f := o.field(name)
		if f == nil {
			return nil, undecodable("INVALID_FIELD", fmt.Sprintf("No such column '%s' on sobject of type %s", name, o.name))
		}
		if f.ReadOnly {
			return nil, bad("INVALID_FIELD_FOR_INSERT_UPDATE", fmt.Sprintf("Unable to create/update fields: %s. Please check the security settings of this field and verify that it is read/write for your profile or permission set.", f.Name), f.Name)
		}
		clean, err := x.value(f, x.normalised(o, f, v))
		if err != nil {
			return nil, err
		}
		set[f.Name] = clean
	}
	return set, nil
}

// normalised is what the org makes of a value before it looks at it.
func (x *tx) normalised(o *object, f *Field, v any) any {
	if s, ok := v.(string); ok && f.Type == typePhone && x.origin == byPerson && x.t.opts.USLocale {
		v = usPhone(s)
	}
	if v != nil && x.t.opts.Normalise != nil {
		v = x.t.opts.Normalise(o.name, f.Name, v)
	}
	return v
}

// usPhone is what the browser of an American makes of ten digits, or of eleven after a 1; anything else stays.
// https://help.salesforce.com/s/articleView?id=000385963&type=1
func usPhone(s string) string {
	digits := strings.TrimSpace(s)
	if len(digits) == 11 {
		digits = strings.TrimPrefix(digits, "1")
	}
	if len(digits) != 10 || strings.Trim(digits, "0123456789") != "" {
		return s
	}
	return "(" + digits[:3] + ") " + digits[3:6] + "-" + digits[6:]
}

// parent resolves {"Sorrel_Id__c":"…"} under a relationship name.
func (x *tx) parent(f *Field, v any) (string, *apiError) {
	m, ok := v.(map[string]any)
	to := x.t.objects[strings.ToLower(f.RefersTo)]
	delete(m, "attributes")
	if !ok || to == nil || len(m) != 1 {
		return "", undecodable("JSON_PARSER_ERROR", fmt.Sprintf("Cannot deserialize %s: one external id of the parent is expected", f.Relationship))
	}
	for name, value := range m {
		s, _ := value.(string)
		by := to.field(name)
		if by == nil || !by.ExternalID && by.Type != typeID {
			return "", undecodable("INVALID_FIELD", fmt.Sprintf("%s is not an External ID field in entity %s", name, to.name))
		}
		if by.Type == typeID {
			v, err := x.value(f, s)
			id, _ := v.(string)
			return id, err
		}
		rows := to.index[by.Name][strings.ToLower(s)]
		switch {
		case len(rows) == 0:
			return "", bad("INVALID_FIELD", fmt.Sprintf("Foreign key external ID: %s not found for field %s in entity %s", s, by.Name, to.name))
		case len(rows) > 1:
			return "", bad("DUPLICATE_EXTERNAL_ID", fmt.Sprintf("%s: more than one record found for external id field", by.Name), by.Name)
		}
		return rows[0].id, nil
	}
	return "", missing()
}

// value checks one value against its field.
func (x *tx) value(f *Field, v any) (any, *apiError) {
	if v == nil || v == "" {
		return nil, nil
	}
	wrong := func(as string) *apiError {
		return undecodable("JSON_PARSER_ERROR", fmt.Sprintf("Cannot deserialize instance of %s from %s: %s", as, kindOf(v), f.Name))
	}
	switch f.Type {
	case typeBoolean:
		if _, ok := v.(bool); !ok {
			return nil, wrong("boolean")
		}
		return v, nil
	case typeCurrency, typeDouble, typeInt:
		var text string
		switch n := v.(type) {
		case json.Number:
			text = n.String()
		case string: // REST takes a number in quotes too
			text = n
		default:
			return nil, wrong("double")
		}
		if len(text) > 40 {
			return nil, bad("NUMBER_OUTSIDE_VALID_RANGE", f.Name+": value outside of valid range on numeric field", f.Name)
		}
		d, err := decimal.NewFromString(text)
		if err != nil || d.Exponent() > 40 || d.Exponent() < -40 {
			return nil, wrong("double")
		}
		d = d.Round(int32(f.Scale))
		if d.Abs().GreaterThanOrEqual(decimal.New(1, 16)) {
			return nil, bad("NUMBER_OUTSIDE_VALID_RANGE", f.Name+": value outside of valid range on numeric field", f.Name)
		}
		return number(f, d), nil
	}
	s, ok := v.(string)
	if !ok {
		if n, isNumber := v.(json.Number); isNumber && f.Type != typeDate && f.Type != typeDatetime && f.Type != typeReference {
			s = n.String()
		} else {
			return nil, wrong(f.Type)
		}
	}
	switch f.Type {
	case typeDate:
		day, err := time.Parse(time.DateOnly, strings.SplitN(s, "T", 2)[0])
		if err != nil {
			return nil, wrong("date")
		}
		return day.Format(time.DateOnly), nil
	case typeDatetime:
		for _, layout := range []string{restTime, time.RFC3339} {
			if at, err := time.Parse(layout, s); err == nil {
				return at.UTC().Truncate(time.Second).Format(restTime), nil
			}
		}
		return nil, wrong("datetime")
	case typeReference:
		return x.reference(f, s)
	}
	if f.Type == typeTextarea {
		s = strings.TrimRight(s, " \t\r\n")
	} else {
		s = strings.TrimSpace(s)
	}
	if s == "" {
		return nil, nil
	}
	if f.Length > 0 && utf8.RuneCountInString(s) > f.Length {
		return nil, bad("STRING_TOO_LONG", fmt.Sprintf("%s: data value too large: %s (max length=%d)", f.Name, s, f.Length), f.Name)
	}
	if local, domain, ok := strings.Cut(s, "@"); f.Type == typeEmail && (!ok || local == "" || !strings.Contains(domain, ".") || strings.ContainsAny(s, " ,;<>")) {
		return nil, bad("INVALID_EMAIL_ADDRESS", fmt.Sprintf("%s: invalid email address: %s", f.Name, s), f.Name)
	}
	if f.Restricted && !slices.Contains(f.Values, s) {
		return nil, bad("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", fmt.Sprintf("%s: bad value for restricted picklist field: %s", f.Name, s), f.Name)
	}
	return s, nil
}

func (x *tx) reference(f *Field, s string) (any, *apiError) {
	key, ok := short(s)
	to := x.t.objects[strings.ToLower(f.RefersTo)]
	for _, name := range f.OrTo {
		if or := x.t.objects[strings.ToLower(name)]; ok && or != nil && strings.HasPrefix(key, or.prefix) {
			to = or
		}
	}
	switch {
	case !ok || to != nil && !strings.HasPrefix(key, to.prefix):
		return nil, bad("MALFORMED_ID", fmt.Sprintf("%s: id value of incorrect type: %s", f.Relationship, s), f.Name)
	case to == nil && f.Name == "OwnerId" && x.t.inactive[key]:
		return nil, bad("INACTIVE_OWNER_OR_USER", fmt.Sprintf("operation performed with inactive user [%s] as owner", s)) // names no field
	case to == nil: // users are not kept
		return key + suffix(key), nil
	case to.rows[key] == nil:
		return nil, bad("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", f.Name)
	case to.rows[key].deleted:
		return nil, &apiError{status: http.StatusBadRequest, code: "ENTITY_IS_DELETED", message: "entity is deleted", fields: []string{f.Name}}
	}
	return to.rows[key].id, nil
}

func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "VALUE_STRING"
	case json.Number:
		return "VALUE_NUMBER"
	case bool:
		return "VALUE_BOOLEAN"
	case []any:
		return "START_ARRAY"
	}
	return "START_OBJECT"
}

// number says a value as the vendor's Java does: 12.0, and 3.5E8 from ten million on.
func number(f *Field, d decimal.Decimal) json.Number {
	if f.Type == typeInt {
		return json.Number(d.String())
	}
	if d.Abs().LessThan(decimal.New(1, 7)) {
		s := d.String()
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return json.Number(s)
	}
	digits := strings.TrimRight(d.Abs().Coefficient().String(), "0")
	exponent := len(d.Abs().Coefficient().String()) + int(d.Exponent()) - 1
	fraction := digits[1:]
	if fraction == "" {
		fraction = "0"
	}
	s := digits[:1] + "." + fraction + "E" + strconv.Itoa(exponent)
	if d.IsNegative() {
		s = "-" + s
	}
	return json.Number(s)
}

// since returns the records whose SystemModstamp is at or after from, in its order.
func (o *object) since(from time.Time) []*row {
	first := sort.Search(len(o.log), func(i int) bool { return !o.log[i].at.Before(from) })
	var rows []*row
	for i := first; i < len(o.log); i++ {
		if r := o.rows[o.log[i].id]; r != nil && r.logged == i {
			rows = append(rows, r)
		}
	}
	return rows
}

// compact drops stale entries of the log when they are many. No transaction may be open.
func (o *object) compact() {
	if len(o.log) <= 4*len(o.rows)+1000 {
		return
	}
	kept := make([]stamp, 0, len(o.rows))
	for i, s := range o.log {
		if r := o.rows[s.id]; r != nil && r.logged == i {
			r.logged = len(kept)
			kept = append(kept, s)
		}
	}
	o.log = kept
}
