package trigger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/steward"
	"sorrel/shared/ledger"
	"sorrel/shared/once"
	"sorrel/shared/policy"
)

// KeyHeader names a decision, so that it can be sent again without being taken again. It is what the draft of the IETF calls
// so, with or without the quotes of a structured field; but what was refused is not remembered: it changed nothing, and is
// judged anew. https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header-07
const KeyHeader = "Idempotency-Key"

// AgainHeader says that an answer is that of an earlier request.
const AgainHeader = "Idempotent-Replayed"

const (
	maxKey    = 128                     // bytes
	keepKeys  = 24 * time.Hour          // how long an answer is remembered
	leaseDesk = 30 * time.Second        // a request on AWS ends within 29 s
	leaseDead = 2 * time.Minute         // SQS is read with patience; a letter that somebody has let go of shows by then
	forgotten = `{"done":"it is done"}` // where the answer was too large to be remembered
)

// keyed reads the key of a request; it is "" where there is none.
func keyed(r *http.Request) (string, error) {
	all := r.Header.Values(KeyHeader)
	if len(all) == 0 {
		return "", nil
	}
	key := strings.TrimSpace(all[0])
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = key[1 : len(key)-1]
	}
	odd := strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\\' || r == ',' })
	if len(all) > 1 || key == "" || len(key) > maxKey || odd {
		return "", &fault.Error{Class: fault.Malformed, Op: "desk", Detail: "the header " + KeyHeader + " cannot be read",
			Remedy: fmt.Sprintf("send it once, with 1 to %d visible ASCII characters without comma, quote and backslash; a random UUID is a good key", maxKey)}
	}
	return key, nil
}

// change is what a known person decides: do does it. look, which may be nil, tells what came of a request that carried a mark
// and was never answered; without it do looks by itself.
type change struct {
	route string
	lease time.Duration
	do    func(*http.Request, policy.Person) (any, error)
	look  func(r *http.Request, by policy.Person, mark string) (answer any, happened bool, err error)
}

// change serves a decision.
func (d Desk) change(mux *http.ServeMux, c change) {
	if c.lease == 0 {
		c.lease = leaseDesk
	}
	method, path, _ := strings.Cut(c.route, " ")
	pattern := method + " /v1/" + path
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		out, again, err := d.once(r, pattern, c)
		if again {
			w.Header().Set(AgainHeader, "true")
		}
		d.reply(w, r, pattern, out, err)
	})
}

// once does a change, once for all requests of one person to one route that carry one key.
func (d Desk) once(r *http.Request, pattern string, c change) (out any, again bool, err error) {
	by, err := d.Who(r)
	if err != nil {
		return nil, false, err
	}
	key, err := keyed(r)
	if err != nil {
		return nil, false, err
	}
	if key == "" {
		out, err = c.do(r, by)
		return out, false, err
	}
	raw, err := whole(r)
	if err != nil {
		return nil, false, err
	}
	under := func(ctx context.Context, mark string) *http.Request { // one that can be read again
		again := r.WithContext(steward.Marked(ctx, mark))
		again.Body = io.NopCloser(bytes.NewReader(raw))
		return again
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\n%s\n", r.URL.Path, r.URL.RawQuery) // never fails
	sum.Write(raw)
	deed := once.Deed{Key: ledger.NewOperationKey("http", by.Name, pattern, key), Print: hex.EncodeToString(sum.Sum(nil)), Lease: c.lease, Keep: keepKeys,
		Do: func(ctx context.Context, mark string) ([]byte, error) {
			out, err := c.do(under(ctx, mark), by)
			if err != nil {
				return nil, err
			}
			return json.Marshal(out)
		}}
	if c.look != nil {
		deed.Look = func(ctx context.Context, mark string) ([]byte, bool, error) {
			out, happened, err := c.look(under(ctx, mark), by, mark)
			if err != nil || !happened {
				return nil, false, err
			}
			answer, err := json.Marshal(out)
			return answer, true, err
		}
	}
	answer, again, err := d.Once.Do(r.Context(), deed)
	switch {
	case fault.Is(err, fault.Refused) && strings.HasPrefix(fault.Outermost(err).Op, "ledger."):
		err = &fault.Error{Class: fault.Refused, Op: "desk", Err: err, Detail: "this " + KeyHeader + " was sent with another request already", Remedy: "use a new key for each decision"}
	case err == nil && answer == nil:
		answer = []byte(forgotten)
	}
	return json.RawMessage(answer), again, err
}

// happened looks whether something was done under a mark: in the log of the record that about names.
func (d Desk) happened(about func(*http.Request) (steward.Acted, error)) func(*http.Request, policy.Person, string) (any, bool, error) {
	return func(r *http.Request, _ policy.Person, mark string) (any, bool, error) {
		out, err := about(r)
		if err != nil {
			return nil, false, err
		}
		done, err := d.Act.Happened(r.Context(), mark, out.Record)
		out.Done = "it is done: the answer to an earlier request with this key was lost"
		return out, done, err
	}
}

func ofRecord(r *http.Request) (steward.Acted, error) {
	id := recordID(r)
	return steward.Acted{Record: id}, fault.Wrap(fault.Malformed, "desk", "", id.Validate())
}

func (d Desk) ofException(r *http.Request) (steward.Acted, error) {
	x, err := d.Ask.Exception(r.Context(), r.PathValue("id"))
	return steward.Acted{Exception: x, Record: x.Record}, err
}
