package trigger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/contract"
	"sorrel/shared/fault"
	"sorrel/shared/flow/deadletters"
	"sorrel/shared/flow/intake"
	"sorrel/shared/flow/operate"
	"sorrel/shared/flow/publish"
	"sorrel/shared/flow/reconcile"
	"sorrel/shared/flow/replay"
	"sorrel/shared/flow/steward"
	"sorrel/shared/flow/workflow"
	"sorrel/shared/once"
	"sorrel/shared/policy"
	"sorrel/shared/record"
	"sorrel/shared/telemetry"
	"sorrel/shared/vendorhttp"
)

// Desk is where people ask and decide: everything under /v1. The local host and the operate function serve the same.
// Asking changes nothing and needs no name; whoever changes something must be somebody.
type Desk struct {
	Config    *policy.Set
	Ask       *operate.Flow
	Act       *steward.Flow
	Dead      *deadletters.Flow // nil where no queues can be reached
	Again     *replay.Flow
	Compare   *reconcile.Flow
	Runs      *workflow.Flow // of workflows
	Tell      *publish.Flow  // subscribers
	Once      once.Guard     // of decisions that carry a key
	Who       Who
	Telemetry *telemetry.Recorder
}

// Who says which person sends a request. It refuses with fault.Forbidden who is nobody that the configuration knows.
type Who func(*http.Request) (policy.Person, error)

// PersonHeader names the person where the machine is trusted.
const PersonHeader = "Sorrel-Person"

// Trusted takes the header's word for who somebody is, from this machine only: whoever runs programs here can read the
// store anyway. It must not stand behind a proxy, which would make everybody local. Web pages cannot use it: the header
// is one that a browser asks leave for (https://fetch.spec.whatwg.org/#http-cors-protocol), and a name that somebody
// points at this machine is no loopback name.
func Trusted(set *policy.Set) Who {
	return func(r *http.Request) (policy.Person, error) {
		if !here(r.RemoteAddr) || !here(r.Host) {
			return policy.Person{}, &fault.Error{Class: fault.Forbidden, Op: "desk", Detail: "this process takes a person's word on its own machine only",
				Remedy: "send the request from there, to a loopback address; a stack on AWS knows callers by their IAM identity"}
		}
		name := r.Header.Get(PersonHeader)
		if name == "" {
			return policy.Person{}, &fault.Error{Class: fault.Forbidden, Op: "desk", Detail: "nobody is named who decides this",
				Remedy: "name a person of people.yaml: --as or SORREL_PERSON at the command line, the header " + PersonHeader + " over HTTP"}
		}
		if p, known := set.Person(name); known {
			return p, nil
		}
		return policy.Person{}, &fault.Error{Class: fault.Forbidden, Op: "desk", Detail: fmt.Sprintf("%q is nobody that people.yaml knows", name),
			Remedy: "give a name as it stands there, or add the person"}
	}
}

// here reports whether an address, with or without a port, is a loopback one.
func here(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
	}
	return vendorhttp.Loopback(host)
}

// arn carries the caller's IAM identity from the event to Signed.
type arn struct{}

// Signed knows people by the IAM identity that API Gateway has authenticated, never by what a request says.
func Signed(set *policy.Set) Who {
	return func(r *http.Request) (policy.Person, error) {
		caller, _ := r.Context().Value(arn{}).(string)
		if caller == "" {
			return policy.Person{}, &fault.Error{Class: fault.Forbidden, Op: "desk", Detail: "the request has no IAM identity",
				Remedy: "the route must have IAM authorization; sign requests with AWS credentials"}
		}
		if p, known := set.PersonAt("aws", caller); known {
			return p, nil
		}
		return policy.Person{}, &fault.Error{Class: fault.Forbidden, Op: "desk", Detail: caller + " is nobody that people.yaml knows",
			Remedy: "add this ARN to a person's aws: there, and deploy"}
	}
}

// Routes serves the desk. Errors are problem+json, also for what no route fits.
func (d Desk) Routes() *http.ServeMux {
	mux := http.NewServeMux()
	d.questions(mux)
	d.decisions(mux)
	d.deadLetters(mux)
	d.replays(mux)
	d.reconciliations(mux)
	d.subscribers(mux)
	d.workflows(mux)
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) {
		Refuse(w, &fault.Error{Class: fault.NotFound, Op: "desk", Detail: "nothing answers " + r.Method + " at this path", Remedy: "the README lists the paths"})
	})
	return mux
}

func (d Desk) questions(mux *http.ServeMux) {
	d.get(mux, "status", func(r *http.Request) (any, error) { return d.Ask.Status(r.Context()) })
	d.get(mux, "traces/{id}", func(r *http.Request) (any, error) { return d.Ask.Trace(r.Context(), r.PathValue("id")) })
	d.get(mux, "records/{entity}/{id}", func(r *http.Request) (any, error) { return d.Ask.Record(r.Context(), recordID(r)) })
	d.get(mux, "records/{entity}/{id}/why", func(r *http.Request) (any, error) {
		return d.Ask.Why(r.Context(), recordID(r), r.URL.Query().Get("field"))
	}, "field")
	d.get(mux, "records/{entity}/{id}/log", func(r *http.Request) (any, error) { return list(d.Ask.Log(r.Context(), recordID(r))) })
	d.get(mux, "links/{platform}/{id}", func(r *http.Request) (any, error) {
		ref := record.Ref{Platform: r.PathValue("platform"), Object: r.URL.Query().Get("object"), ID: r.PathValue("id")}
		id, err := d.Ask.Resolve(r.Context(), ref)
		return map[string]record.ID{"record": id}, err
	}, "object")
	d.get(mux, "proposals", func(r *http.Request) (any, error) {
		all, err := flag(r, "all")
		if err != nil {
			return nil, err
		}
		return list(d.Ask.Proposals(r.Context(), all))
	}, "all")
	d.get(mux, "proposals/{id}", func(r *http.Request) (any, error) { return d.Ask.Proposal(r.Context(), r.PathValue("id")) })
	d.get(mux, "exceptions", d.exceptions, "all", "type", "platform", "record", "assignee", "field", "group")
	d.get(mux, "exceptions/{id}", func(r *http.Request) (any, error) { return d.Ask.Exception(r.Context(), r.PathValue("id")) })
	d.get(mux, "audit", d.audit)
}

func (d Desk) exceptions(r *http.Request) (any, error) {
	q := r.URL.Query()
	all, err := flag(r, "all")
	if err != nil {
		return nil, err
	}
	by := operate.Filter{All: all, Type: q.Get("type"), Platform: q.Get("platform"), Record: record.ID(q.Get("record")), Assignee: q.Get("assignee"), Field: q.Get("field")}
	switch group := q.Get("group"); group {
	case "":
		return list(d.Ask.Exceptions(r.Context(), by))
	case "cause":
		return list(d.Ask.Causes(r.Context(), by))
	default:
		return nil, &fault.Error{Class: fault.Malformed, Op: "desk", Detail: fmt.Sprintf("exceptions cannot be grouped by %q", group), Remedy: "use group=cause"}
	}
}

func (d Desk) audit(r *http.Request) (any, error) {
	found, err := d.Ask.Verify(r.Context(), nil)
	if err != nil && r.Context().Err() != nil {
		return nil, &fault.Error{Class: fault.Down, Op: "desk.audit", Detail: "the audit log is too long to be verified within one request", Err: err,
			Remedy: "verify it from the command line: sorrel audit verify --table TABLE"}
	}
	return found, err
}

func (d Desk) decisions(mux *http.ServeMux) {
	d.change(mux, change{route: "POST proposals/{id}", do: d.decide}) // a verdict is one, however often it is given
	d.change(mux, change{route: "POST exceptions/{id}", do: d.act, look: d.happened(d.ofException)})
	aboutRecord := d.happened(ofRecord)
	d.change(mux, change{route: "PUT records/{entity}/{id}/overrides/{field}", do: d.override, look: aboutRecord})
	d.change(mux, change{route: "DELETE records/{entity}/{id}/overrides/{field}", look: aboutRecord, do: func(r *http.Request, by policy.Person) (any, error) {
		return d.Act.Revoke(r.Context(), by, recordID(r), r.PathValue("field"))
	}})
	d.change(mux, change{route: "PUT records/{entity}/{id}/assigned/{field}", look: aboutRecord, do: func(r *http.Request, by policy.Person) (any, error) {
		var in value
		if err := body(r, &in, `{"value": …}`); err != nil {
			return nil, err
		}
		v, err := in.of(d.Config, recordID(r).Entity(), r.PathValue("field"))
		if err != nil {
			return nil, err
		}
		return d.Act.Assign(r.Context(), by, recordID(r), r.PathValue("field"), v)
	}})
	d.change(mux, change{route: "POST records/{entity}/{id}/merge", look: aboutRecord, do: func(r *http.Request, by policy.Person) (any, error) {
		var in struct {
			From record.ID `json:"from"`
		}
		if err := body(r, &in, `{"from": "entity/key"}`); err != nil {
			return nil, err
		}
		return d.Act.Merge(r.Context(), by, recordID(r), in.From)
	}})
	d.change(mux, change{route: "POST records/{entity}/{id}/unmerge", look: aboutRecord, do: func(r *http.Request, by policy.Person) (any, error) {
		return d.Act.Unmerge(r.Context(), by, recordID(r))
	}})
}

func (d Desk) decide(r *http.Request, by policy.Person) (any, error) {
	var in struct {
		Decision string `json:"decision"`
		Revision int    `json:"revision"`
		Comment  string `json:"comment"`
	}
	const want = `{"decision": "approve" or "reject", "revision": the one that you saw, "comment": "…"}`
	if err := body(r, &in, want); err != nil {
		return nil, err
	}
	if in.Decision != "approve" && in.Decision != "reject" || in.Revision < 0 {
		return nil, &fault.Error{Class: fault.Malformed, Op: "desk", Detail: "decision must be approve or reject, and revision a number from 1", Remedy: "send " + want}
	}
	return d.Act.Decide(r.Context(), by, steward.Verdict{Proposal: r.PathValue("id"), Approve: in.Decision == "approve", Revision: in.Revision, Comment: in.Comment})
}

func (d Desk) act(r *http.Request, by policy.Person) (any, error) {
	var in struct {
		Do       string    `json:"action"`
		Field    string    `json:"field"`
		Platform string    `json:"platform"`
		Record   record.ID `json:"record"`
		Until    time.Time `json:"until"`
		Reason   string    `json:"reason"`
		Assignee string    `json:"assignee"`
		value
	}
	want := fmt.Sprintf(`{"action": …} with what the action needs; actions are %s`, strings.Join(steward.Actions(), ", "))
	if err := body(r, &in, want); err != nil {
		return nil, err
	}
	a := steward.Action{Exception: r.PathValue("id"), Do: in.Do, Field: in.Field, Platform: in.Platform, Record: in.Record, Until: in.Until, Reason: in.Reason, Assignee: in.Assignee}
	if in.said() {
		about, err := d.Ask.Exception(r.Context(), a.Exception)
		if err != nil {
			return nil, err
		}
		field := a.Field
		if field == "" {
			field = about.Field
		}
		v, err := in.of(d.Config, about.Record.Entity(), field)
		if err != nil {
			return nil, err
		}
		a.Value = &v
	}
	return d.Act.Act(r.Context(), by, a)
}

func (d Desk) override(r *http.Request, by policy.Person) (any, error) {
	var in struct {
		value
		Until  time.Time `json:"until"`
		Reason string    `json:"reason"`
	}
	if err := body(r, &in, `{"value": …, "until": "2027-01-31T00:00:00Z", "reason": "…"}`); err != nil {
		return nil, err
	}
	v, err := in.of(d.Config, recordID(r).Entity(), r.PathValue("field"))
	if err != nil {
		return nil, err
	}
	return d.Act.Override(r.Context(), by, recordID(r), r.PathValue("field"), steward.Override{Value: v, Until: in.Until, Reason: in.Reason})
}

// value is a value as JSON, or as a person types it: then it is read as the field's type.
type value struct {
	Value json.RawMessage `json:"value"`
	Text  *string         `json:"text"`
}

func (v value) said() bool { return v.Value != nil || v.Text != nil }

// of reads a value of a field. Whether it may stand there is not judged here.
func (v value) of(set *policy.Set, entity, field string) (record.Value, error) {
	if (v.Value == nil) == (v.Text == nil) {
		return record.Value{}, &fault.Error{Class: fault.Malformed, Op: "desk", Fields: []string{field}, Detail: "there must be a value, once", Remedy: `give "value", or "text" for a value as it is typed`}
	}
	if v.Value != nil {
		out, err := record.ParseJSON(v.Value)
		return out, fault.Wrap(fault.Malformed, "desk", field, err)
	}
	kind := contract.Text
	if c := set.Contract(entity); c != nil {
		if f, known := c.Field(field); known {
			kind = f.Type
		}
	}
	return typed(kind, *v.Text)
}

// typed reads what a person typed. What cannot be read stays text, which the contract then refuses by the field's name.
func typed(kind contract.Type, text string) (record.Value, error) {
	switch kind {
	case contract.Number, contract.Money:
		if v, err := record.ParseNumber(text); err == nil {
			return v, nil
		}
	case contract.Bool:
		if text == "true" || text == "false" {
			return record.BoolValue(text == "true"), nil
		}
	case contract.List, contract.Table:
		if v, err := record.ParseJSON([]byte(text)); err == nil {
			return v, nil
		}
	}
	return record.TextValue(text), nil
}

// maxBody bounds what a person may send.
const maxBody = 64 << 10

// whole reads the body of a request.
func whole(r *http.Request) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, fault.Wrap(fault.Malformed, "desk", "", err)
	}
	if len(raw) > maxBody {
		return nil, &fault.Error{Class: fault.TooLarge, Op: "desk", Detail: fmt.Sprintf("the body is larger than %d bytes", maxBody)}
	}
	return raw, nil
}

// body decodes a request strictly. want says in the remedy what should have come.
func body(r *http.Request, into any, want string) error {
	raw, err := whole(r)
	if err != nil {
		return err
	}
	if err = strict(raw, into); err == nil {
		return nil
	}
	detail := strings.TrimPrefix(err.Error(), "json: ")
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		detail = fmt.Sprintf("%s cannot be a %s", wrong.Field, wrong.Value)
	}
	if errors.Is(err, io.EOF) {
		detail = "it is empty"
	}
	return &fault.Error{Class: fault.Malformed, Op: "desk", Detail: "the body cannot be read: " + detail, Remedy: "send " + want}
}

// flag reads a query parameter that is true or false.
func flag(r *http.Request, name string) (bool, error) {
	said := r.URL.Query().Get(name)
	if said == "" {
		return false, nil
	}
	on, err := strconv.ParseBool(said)
	if err != nil {
		return false, &fault.Error{Class: fault.Malformed, Op: "desk", Detail: fmt.Sprintf("%s is %q", name, said), Remedy: "use true or false"}
	}
	return on, nil
}

// list makes a list of nothing an empty one in JSON.
func list[T any](all []T, err error) ([]T, error) {
	if all == nil {
		all = []T{}
	}
	return all, err
}

func recordID(r *http.Request) record.ID {
	return record.ID(r.PathValue("entity") + "/" + r.PathValue("id"))
}

// get answers a question. A parameter that is not among those known is refused: a filter with a typing error would
// answer another question.
func (d Desk) get(mux *http.ServeMux, path string, f func(*http.Request) (any, error), known ...string) {
	d.answer(mux, "GET /v1/"+path, func(r *http.Request) (any, error) {
		for name := range r.URL.Query() {
			if !slices.Contains(known, name) {
				return nil, &fault.Error{Class: fault.Malformed, Op: "desk", Detail: fmt.Sprintf("unknown parameter %q", name), Remedy: fmt.Sprintf("known here: %q", known)}
			}
		}
		return f(r)
	})
}

func (d Desk) answer(mux *http.ServeMux, pattern string, f func(*http.Request) (any, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		out, err := f(r)
		d.reply(w, r, pattern, out, err)
	})
}

// reply sends what came of a request.
func (d Desk) reply(w http.ResponseWriter, r *http.Request, pattern string, out any, err error) {
	if err == nil {
		Answer(w, out)
		return
	}
	if fault.RowOf(err).Status >= http.StatusInternalServerError {
		d.Telemetry.Event(context.WithoutCancel(r.Context()), telemetry.Event{Step: "failed", Detail: pattern, Err: err})
	}
	if after := intake.RetryAfter(err, d.Once.Now()); after != "" {
		w.Header().Set("Retry-After", after)
	}
	Refuse(w, err)
}

// Answer sends JSON.
func Answer(w http.ResponseWriter, out any) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", "  ")
	if err := enc.Encode(out); err != nil { // before the caller is told that all is well
		Refuse(w, fault.Wrap(fault.Internal, "desk", "", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text.Bytes()) // the caller hung up
}

// Refuse sends err as a problem, without its inner causes when they are ours.
func Refuse(w http.ResponseWriter, err error) {
	p := intake.ProblemOf(err, "")
	if p.Detail == "" && p.Status < http.StatusInternalServerError {
		p.Detail = rootCause(err)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the caller hung up
}

func rootCause(err error) string {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err.Error()
}
