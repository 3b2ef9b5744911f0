// Package message is the two messages that travel between functions: Inbound (a platform said something about
// one native record) and Wake (a platform's copy of a record may be due). Queues only carry them; losing a Wake
// loses nothing, because what is due is in the ledger.
package message

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"sorrel/shared/budget"
	"sorrel/shared/fault"
	"sorrel/shared/jsonread"
	"sorrel/shared/queue"
	"sorrel/shared/record"
)

const version = 1

// Source says how an Inbound came about.
type Source string

const (
	Webhook   Source = "webhook"
	Batch     Source = "batch"
	Load      Source = "load" // as Batch, of a first load: nobody waits for it
	Recheck   Source = "recheck"
	Replay    Source = "replay"    // as Recheck, for a replay
	Reconcile Source = "reconcile" // found by a comparison
	Lookup    Source = "lookup"    // read because somebody asked for it
	Timer     Source = "timer"     // of a record, not a native one: Ref is record.Sorrel, the entity and the rest of the record id
)

// Inbound carries one native record, or a hint at one, from intake, batch or sweep to the hub.
type Inbound struct {
	V             int           `json:"v"`
	CorrelationID string        `json:"correlationId"`
	ReceivedAt    time.Time     `json:"receivedAt"`
	Source        Source        `json:"source"`
	Native        record.Native `json:"native"`
}

// Message gives the queue message. Its group is the native record, so that one record's messages stay in
// order. event identifies the vendor's event or the listing's row: the same one sent twice within the queue's
// dedup window is dropped, which saves work and nothing else (the hub is idempotent).
func (in Inbound) Message(event string) (queue.Message, error) {
	in.V = version
	body, err := appendInbound(make([]byte, 0, 2<<10), in)
	if err != nil {
		return queue.Message{}, &fault.Error{Class: fault.Malformed, Op: "message.inbound", ID: in.Native.Ref.String(), Err: err}
	}
	if len(body) > queue.MaxBody {
		return queue.Message{}, &fault.Error{Class: fault.TooLarge, Op: "message.inbound", ID: in.Native.Ref.String(),
			Detail: fmt.Sprintf("%d bytes after decoding, at most %d", len(body), queue.MaxBody)}
	}
	return queue.Message{Group: token(in.Native.Ref.String()), Dedup: digest(event + "\x00" + in.Native.Ref.String()), Body: body}, nil
}

// ParseInbound reads an Inbound strictly.
func ParseInbound(body []byte) (Inbound, error) {
	r := jsonread.New(body, deepest)
	in := readInbound(r)
	if err := r.End(); err != nil {
		return Inbound{}, fault.Wrap(fault.Malformed, "message.inbound", "", err)
	}
	switch {
	case in.V != version:
		return in, fault.New(fault.Malformed, "message.inbound", fmt.Sprintf("message version %d, this program knows %d", in.V, version))
	case in.CorrelationID == "" || in.Native.Platform == "" || in.Native.Object == "" || in.Native.ID == "":
		return in, fault.New(fault.Malformed, "message.inbound", "correlationId, native.platform, native.object and native.id must be set")
	}
	return in, nil
}

// Wake asks deliver to look at one record for one platform.
type Wake struct {
	V             int       `json:"v"`
	Platform      string    `json:"platform"`
	Record        record.ID `json:"record"`
	CorrelationID string    `json:"correlationId"`
	// Class is what a batch of wake-ups is ordered by. How urgent the work really is stands in the ledger.
	Class budget.Class `json:"class,omitempty"`
}

// lane is the group of all replays' wake-ups of a platform. A queue hands out one batch of a group at a time, and goes on
// with other groups behind it: however many replays wait, live changes pass them, and one worker at most is busy with them.
const lane = "replay"

// Message gives the queue message. Its group is the record, or the lane of replays; so a record may be delivered by two
// workers at once, which the ledger's revisions decide. event identifies the commit that made the work due, or the sweep
// that found it: one correlation id may make a record due several times, and each has to wake.
func (w Wake) Message(event string) (queue.Message, error) {
	w.V = version
	body, err := json.Marshal(w)
	if err != nil {
		return queue.Message{}, &fault.Error{Class: fault.Internal, Op: "message.wake", ID: string(w.Record), Err: err}
	}
	group := token(string(w.Record))
	if w.Class == budget.Replay {
		group = lane
	}
	of := string(w.Record)
	if _, is := record.Subscriber(w.Platform); is { // all of them share a queue
		of += "\x00" + w.Platform
	}
	return queue.Message{Group: group, Dedup: digest(event + "\x00" + of), Body: body}, nil
}

// ParseWake reads a Wake strictly.
func ParseWake(body []byte) (Wake, error) {
	r := jsonread.New(body, deepest)
	w := readWake(r)
	if err := r.End(); err != nil {
		return Wake{}, fault.Wrap(fault.Malformed, "message.wake", "", err)
	}
	if w.V != version || w.Platform == "" {
		return w, fault.New(fault.Malformed, "message.wake", fmt.Sprintf("version %d and platform %q, want version %d and a platform", w.V, w.Platform, version))
	}
	if err := w.Record.Validate(); err != nil {
		return w, fault.Wrap(fault.Malformed, "message.wake", "", err)
	}
	return w, nil
}

// About tells what a message concerns, for people: a native record as a whole, with the version that it tells, or a
// record on a platform. It is false for what cannot be read.
func About(body []byte) (platform, about string, told time.Time, readable bool) {
	if in, err := ParseInbound(body); err == nil {
		if in.Native.Platform == record.Sorrel {
			return "", in.Native.Object + "/" + in.Native.ID, time.Time{}, true
		}
		return in.Native.Platform, in.Native.Ref.String(), in.Native.Version.At, true
	}
	if w, err := ParseWake(body); err == nil {
		return w.Platform, string(w.Record), time.Time{}, true
	}
	return "", "", time.Time{}, false
}

// deepest bounds the nesting of a message as encoding/json, which wrote parts of it, does.
const deepest = 10_000

// unknown refuses a member that this version does not know.
func unknown(r *jsonread.Reader, name string) { r.Fail(fmt.Errorf("unknown member %.60q", name)) }

func readInbound(r *jsonread.Reader) (in Inbound) {
	r.Object(func(name string) {
		switch name {
		case "v":
			in.V = int(r.Int())
		case "correlationId":
			in.CorrelationID = r.Text()
		case "receivedAt":
			in.ReceivedAt = r.Time()
		case "source":
			in.Source = Source(r.Text())
		case "native":
			in.Native = readNative(r)
		default:
			unknown(r, name)
		}
	})
	return in
}

func readNative(r *jsonread.Reader) (n record.Native) {
	r.Object(func(name string) {
		switch name {
		case "platform":
			n.Platform = r.Text()
		case "object":
			n.Object = r.Text()
		case "id":
			n.ID = r.Text()
		case "version":
			n.Version = readVersion(r)
		case "fields":
			n.Fields = r.Map()
		case "partial":
			n.Partial = r.Bool()
		case "gone":
			n.Gone = r.Bool()
		case "into":
			n.Into = r.Text()
		case "born":
			n.Born = r.Time()
		case "external":
			n.External = r.Text()
		case "ours":
			n.Ours = r.Bool()
		case "actor":
			n.Actor = r.Text()
		default:
			unknown(r, name)
		}
	})
	return n
}

func readVersion(r *jsonread.Reader) (v record.Version) {
	r.Object(func(name string) {
		switch name {
		case "at":
			v.At = r.Time()
		case "final":
			v.Final = r.Bool()
		case "seq":
			v.Seq = r.Int()
		default:
			unknown(r, name)
		}
	})
	return v
}

func readWake(r *jsonread.Reader) (w Wake) {
	r.Object(func(name string) {
		switch name {
		case "v":
			w.V = int(r.Int())
		case "platform":
			w.Platform = r.Text()
		case "record":
			w.Record = record.ID(r.Text())
		case "correlationId":
			w.CorrelationID = r.Text()
		case "class":
			w.Class = budget.Class(r.Text())
		default:
			unknown(r, name)
		}
	})
	return w
}

// token is s itself where a queue takes it as a group id, else a digest.
func token(s string) string {
	if len(s) > queue.MaxID {
		return digest(s)
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return digest(s)
		}
	}
	return s
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}
