package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/cloud"
	"sorrel/shared/fault"
	"sorrel/shared/store"
)

func key(sort string) store.Key { return store.Key{Part: "p", Sort: sort} }

func put(sort string) store.Op {
	return store.Op{Kind: store.Put, Key: key(sort), Value: []byte(`{"a":1}`)}
}

func absent(op store.Op) store.Op { op.Absent = true; return op }

func ifRev(op store.Op, r store.Rev) store.Op { op.IfRev = r; return op }

func repeat(n int, s step) []step {
	out := make([]step, n)
	for i := range out {
		out[i] = s
	}
	return out
}

// cancelled is a TransactionCanceledException with these reason codes.
func cancelled(codes ...string) step {
	reasons := make([]string, len(codes))
	for i, c := range codes {
		reasons[i] = fmt.Sprintf(`{"Code":%q,"Message":"made"}`, c)
	}
	return answer(400, `{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","message":"cancelled","CancellationReasons":[`+
		strings.Join(reasons, ",")+`]}`)
}

func TestAttemptsAreBoundedAndJittered(t *testing.T) {
	for _, tc := range []struct {
		name  string
		step  step
		ops   []store.Op
		class fault.Class
	}{
		{"throttled put", refuse(400, "ThrottlingException"), []store.Op{put("a")}, fault.Throttled},
		{"no capacity", refuse(400, "ProvisionedThroughputExceededException"), []store.Op{put("a")}, fault.Throttled},
		{"account limit", refuse(400, "RequestLimitExceeded"), []store.Op{{Kind: store.Delete, Key: key("a")}}, fault.Throttled},
		{"plain write meets a transaction", refuse(400, "TransactionConflictException"), []store.Op{put("a")}, fault.Throttled},
		{"transaction meets another", cancelled("None", "TransactionConflict"), []store.Op{put("a"), put("b")}, fault.Throttled},
		{"transaction without capacity", cancelled("ThrottlingError", "None"), []store.Op{put("a"), put("b")}, fault.Throttled},
		{"transaction above the table's capacity", cancelled("None", "ProvisionedThroughputExceeded"), []store.Op{put("a"), put("b")}, fault.Throttled},
		{"transaction above the account's limit", cancelled("RequestLimitExceeded", "TransactionConflict"), []store.Op{put("a"), put("b")}, fault.Throttled},
		{"same token in progress", refuse(400, "TransactionInProgressException"), []store.Op{put("a"), put("b")}, fault.Throttled},
		{"server error", refuse(500, "InternalServerError"), []store.Op{put("a")}, fault.Unknown},
		{"unavailable, no JSON", answer(503, "<html>"), []store.Op{put("a"), put("b")}, fault.Unknown},
		{"check on a failing server", refuse(500, "InternalServerError"), []store.Op{ifRev(store.Op{Kind: store.Check, Key: key("a")}, "r")}, fault.Down},
		{"nobody listens", func(*wire, *http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
		}, []store.Op{put("a")}, fault.Down},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var pauses waits
			w := scripted(t, repeat(4, tc.step)...)
			err := w.store(cloud.StoreOptions{Calls: calls(&pauses)}).Commit(t.Context(), tc.ops...)
			if !fault.Is(err, tc.class) {
				t.Errorf("got %v, want class %s", err, tc.class)
			}
			if n := len(w.ops()); n != 4 {
				t.Errorf("%d requests, want the 4 attempts", n)
			}
			if len(pauses.list) != 3 {
				t.Fatalf("pauses %v, want 3", pauses.list)
			}
			for i, d := range pauses.list {
				if d < 0 || d >= 25*time.Millisecond<<i {
					t.Errorf("pause %d is %v", i, d)
				}
			}
			if slices.Equal(pauses.list, []time.Duration{pauses.list[0], pauses.list[0], pauses.list[0]}) {
				t.Errorf("pauses %v are not jittered", pauses.list)
			}
		})
	}
}

func TestFinalAnswersAreNotRepeated(t *testing.T) {
	for _, tc := range []struct {
		name string
		step step
		ops  []store.Op
		ok   func(error) bool
	}{
		{"condition", refuse(400, "ConditionalCheckFailedException"), []store.Op{absent(put("a"))}, store.IsConflict},
		{"validation", refuse(400, "ValidationException"), []store.Op{put("a")}, isInvalid},
		{"validation in a transaction", cancelled("None", "ValidationError"), []store.Op{put("a"), put("b")}, isInvalid},
		{"no permission", refuse(400, "AccessDeniedException"), []store.Op{put("a")}, func(err error) bool {
			return fault.Is(err, fault.Internal) && strings.Contains(err.Error(), "permission")
		}},
		{"no table", refuse(400, "ResourceNotFoundException"), []store.Op{put("a")}, func(err error) bool { return fault.Is(err, fault.Internal) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := scripted(t, tc.step)
			err := w.store(cloud.StoreOptions{Calls: calls(new(waits))}).Commit(t.Context(), tc.ops...)
			if !tc.ok(err) {
				t.Errorf("got %v", err)
			}
			if n := len(w.ops()); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	}
}

func isInvalid(err error) bool { return errors.As(err, new(*store.InvalidError)) }

// A conflict is decided even when another item was contended, and names only the keys that failed.
func TestCancelledTransactionNamesTheKeys(t *testing.T) {
	w := scripted(t, cancelled("None", "ConditionalCheckFailed", "TransactionConflict", "ConditionalCheckFailed"))
	err := w.store(cloud.StoreOptions{Calls: calls(new(waits))}).Commit(t.Context(),
		put("a"), absent(put("b")), put("c"), absent(put("d")))
	var c *store.ConflictError
	if !errors.As(err, &c) || !slices.Equal(c.Keys, []store.Key{key("b"), key("d")}) {
		t.Errorf("got %v, want a conflict on b and d", err)
	}
}

// Every attempt of a transaction must be the same request, or the token does not protect it.
func TestTransactionRepeatsTheSameRequest(t *testing.T) {
	w := scripted(t, loseRequest, cancelled("TransactionConflict", "None"), answer(200, "{}"))
	clock := epoch
	c := calls(new(waits))
	c.Now = func() time.Time { clock = clock.Add(time.Minute); return clock }
	if err := w.store(cloud.StoreOptions{Calls: c}).Commit(t.Context(), absent(put("a")), put("b")); err != nil {
		t.Fatal(err)
	}
	var token struct{ ClientRequestToken string }
	w.body(0, &token)
	if n := len(token.ClientRequestToken); n < 1 || n > 36 {
		t.Errorf("token of %d characters, DynamoDB takes 1 to 36", n)
	}
	for i := range w.calls[1:] {
		var first, other any
		w.body(0, &first)
		w.body(i+1, &other)
		if fmt.Sprint(first) != fmt.Sprint(other) {
			t.Errorf("attempt %d differs:\n%v\n%v", i+1, first, other)
		}
	}
}

// A transaction server that ignores request tokens still shows our revisions.
func TestTransactionRecognisesItsOwnRevision(t *testing.T) {
	var w *wire
	w = scripted(t, loseRequest, func(_ *wire, req *http.Request) (*http.Response, error) {
		var sent struct {
			TransactItems []struct {
				Put struct {
					Item struct{ Rev struct{ S string } }
				}
			}
		}
		w.body(1, &sent)
		return answer(400, fmt.Sprintf(`{"__type":"TransactionCanceledException","CancellationReasons":[{"Code":"None"},
			{"Code":"ConditionalCheckFailed","Item":{"rev":{"S":%q}}}]}`, sent.TransactItems[1].Put.Item.Rev.S))(w, req)
	})
	if err := w.store(cloud.StoreOptions{Calls: calls(new(waits))}).Commit(t.Context(), put("a"), absent(put("b"))); err != nil {
		t.Error(err)
	}
}

func TestUnprocessedKeysAreReadAgain(t *testing.T) {
	const item = `{"part":{"B":"cA=="},"sort":{"B":"%s"},"rev":{"S":"r"},"value":{"S":"v"}}`
	left := `"UnprocessedKeys":{"table":{"Keys":[{"part":{"B":"cA=="},"sort":{"B":"Yg=="}}]}}`
	var read float64
	w := scripted(t,
		answer(200, `{"Responses":{"table":[`+fmt.Sprintf(item, "YQ==")+`]},`+left+`}`),
		answer(200, `{"Responses":{},`+left+`}`),
		refuse(400, "ThrottlingException"),
		answer(200, `{"Responses":{"table":[`+fmt.Sprintf(item, "Yg==")+`]}}`))
	s := w.store(cloud.StoreOptions{Calls: calls(new(waits)), OnUnits: func(_ string, r, _ float64) { read += r }})
	got, err := s.GetMany(t.Context(), key("a"), key("b"), key("a"), key("c"))
	if err != nil || len(got) != 2 || got[0].Sort != "a" || got[1].Sort != "b" {
		t.Fatalf("got %v, %v", got, err)
	}
	if read != 3 { // a, b and the missing c
		t.Errorf("%v RRU, want 3", read)
	}

	w = scripted(t, repeat(4, answer(200, `{"Responses":{},`+left+`}`))...)
	if _, err := w.store(cloud.StoreOptions{Calls: calls(new(waits))}).GetMany(t.Context(), key("b")); !fault.Is(err, fault.Throttled) {
		t.Errorf("no progress: got %v, want throttled", err)
	}
}

func TestReadsOfForeignItemsSayWhatIsWrong(t *testing.T) {
	for _, it := range []string{
		`{"part":{"S":"p"},"sort":{"B":"YQ=="},"rev":{"S":"r"},"value":{"S":"v"}}`,
		`{"part":{"B":"cA=="},"sort":{"B":"YQ=="},"value":{"S":"v"}}`,
		`{"part":{"B":"cA=="},"sort":{"B":"YQ=="},"rev":{"S":"r"}}`,
		`{"part":{"B":"cA=="},"sort":{"B":"YQ=="},"rev":{"S":"r"},"value":{"S":"v"},"expires":{"S":"1"}}`,
		`{"part":{"B":"cA=="},"sort":{"B":"YQ=="},"rev":{"S":"r"},"value":{"S":"v"},"expires":{"N":"1.5"}}`,
	} {
		w := scripted(t, answer(200, `{"Item":`+it+`}`))
		if _, err := w.store(cloud.StoreOptions{Calls: calls(new(waits))}).Get(t.Context(), key("a")); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: got %v, want internal", it, err)
		}
	}
}

func TestEndedContextStopsAttempts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := scripted(t, between(cancel, refuse(400, "ThrottlingException")))
	err := w.store(cloud.StoreOptions{Calls: calls(new(waits))}).Commit(ctx, put("a"))
	if !fault.Is(err, fault.Throttled) || len(w.ops()) != 1 {
		t.Errorf("got %v after %v", err, w.ops())
	}
	if err := w.store(cloud.StoreOptions{}).Commit(ctx, put("a")); !errors.Is(err, context.Canceled) || len(w.ops()) != 1 {
		t.Errorf("ended before the start: got %v after %v", err, w.ops())
	}
}

// An attempt that hangs ends at its own timeout and counts as unanswered.
func TestHangingAttemptTimesOut(t *testing.T) {
	w := scripted(t, func(_ *wire, req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}, answer(200, "{}"))
	c := calls(new(waits))
	c.Timeout = 10 * time.Millisecond
	if err := w.store(cloud.StoreOptions{Calls: c}).Commit(t.Context(), absent(put("a"))); err != nil || len(w.ops()) != 2 {
		t.Errorf("got %v after %v", err, w.ops())
	}
}

func TestRangeAsksForNothingThatCannotExist(t *testing.T) {
	s := scripted(t).store(cloud.StoreOptions{Calls: calls(new(waits))})
	for _, r := range [][3]string{{"", "", ""}, {"p", "b", "b"}, {"p", "b", "a"}, {strings.Repeat("p", store.MaxPart+1), "", ""}} {
		for e, err := range s.Range(t.Context(), r[0], r[1], r[2]) {
			t.Errorf("range %q gave %v, %v", r, e, err)
		}
	}
}
