package flow_test

import (
	"testing"
	"time"

	"sorrel/shared/platform"
	"sorrel/shared/record"
)

// Somebody sets a value, somebody elsewhere another one, which we write there, and the first sets theirs again: that is the
// newest edit, whatever is known of the value from before. Each edit costs one write to each other platform. (Only who does
// so a fourth time within the hour is held for something that insists.)
func TestSameValueAgain(t *testing.T) {
	t.Parallel()
	names := []string{record.NetSuite, record.Salesforce, record.Zendesk, record.ServiceNow}
	for _, one := range names {
		for _, other := range names {
			if one == other {
				continue
			}
			t.Run(one+" and "+other, func(t *testing.T) {
				t.Parallel()
				for _, resolution := range []time.Duration{time.Millisecond, time.Second} {
					w, _ := governedWorld(t)
					by := map[string]*fake{}
					for _, f := range w.fakes() {
						f.resolution, by[f.name] = resolution, f
					}
					for range 3 {
						for _, edit := range []struct{ on, phone string }{{one, "p"}, {other, "b"}} {
							w.edit(by[edit.on], map[string]any{"phone": edit.phone})
							w.settle()
							w.shows("phone", edit.phone, w.fakes()...)
							for _, f := range w.fakes() {
								want := 1
								if f.name == edit.on {
									want = 0
								}
								if n := f.total(); n != want {
									t.Errorf("%d writes to %s, want %d", n, f.name, want)
								}
							}
							if t.Failed() {
								t.FailNow()
							}
						}
					}
					w.expectExceptions()
					w.audited()
				}
			})
		}
	}
}

// Somebody sets a value again that we have written over, and somebody elsewhere yet another one, which cannot be written there
// for a while. A colleague of the first who saves the record meanwhile sets nothing anew.
func TestSavedAfterSameValueAgain(t *testing.T) {
	t.Parallel()
	for _, on := range []string{record.NetSuite, record.Zendesk, record.ServiceNow} {
		w, _ := governedWorld(t)
		var f *fake
		for _, x := range w.fakes() {
			if x.name == on {
				f = x
			}
		}
		w.edit(f, map[string]any{"phone": "p"})
		w.settle()
		w.edit(w.salesforce, map[string]any{"phone": "b"})
		w.settle()
		w.edit(f, map[string]any{"phone": "p"})
		w.settle()
		w.shows("phone", "p", w.fakes()...)
		w.edit(w.salesforce, map[string]any{"phone": "c"})
		w.drain(w.inbound, w.hub.Apply)
		w.edit(f, map[string]any{"noted": "something else"})
		w.settle()
		w.shows("phone", "c", w.fakes()...)
	}
}

// Word of what somebody set on a platform comes while we write there. Which was first only a read shows: the same is not
// written again before that.
func TestWordWhileWritten(t *testing.T) {
	t.Parallel()
	w, _ := governedWorld(t)
	word := w.netsuite.set("account", "1", map[string]any{"phone": "p"})
	w.edit(w.salesforce, map[string]any{"phone": "b"})
	w.netsuite.tell = func(platform.Write) *told {
		w.netsuite.tell = nil
		w.push(word)
		w.drain(w.inbound, w.hub.Apply)
		return nil
	}
	w.settle()
	w.shows("phone", "b", w.fakes()...)
	if n := w.netsuite.total(); n != 1 {
		t.Errorf("%d writes, want 1\n%s", n, w.tail())
	}
}

// A refused value that somebody sets again is put back again, and what was rejected can be asked for again.
func TestRefusedValueAgain(t *testing.T) {
	t.Parallel()
	w, id := governedWorld(t)
	for range 2 {
		for _, f := range []*fake{w.zendesk, w.servicenow} { // revert, reject
			w.edit(f, map[string]any{"street": "Elsewhere 1"})
			w.settle()
			w.shows("street", "Kirchgasse 6", w.fakes()...)
		}
		w.edit(w.salesforce, map[string]any{"street": "Elsewhere 2"})
		w.settle()
		w.shows("street", "Elsewhere 2", w.salesforce)
		w.decide(id, false)
		w.settle()
		w.shows("street", "Kirchgasse 6", w.fakes()...)
	}
	w.edit(w.salesforce, map[string]any{"street": "Elsewhere 2"})
	w.settle()
	w.decide(id, true)
	w.settle()
	w.shows("street", "Elsewhere 2", w.fakes()...)
}
