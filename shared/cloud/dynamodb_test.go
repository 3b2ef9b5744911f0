//go:build linux || darwin

package cloud_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"sorrel/shared/cloud"
	"sorrel/shared/cloud/localservers"
	"sorrel/shared/fault"
	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

// table is one table of a running DynamoDB Local.
type table struct {
	*wire
	name   string
	client *dynamodb.Client
}

func newTable(t *testing.T, endpoint string) *table {
	t.Helper()
	w := &wire{t: t, next: awshttp.NewBuildableClient()}
	tb := &table{wire: w, client: dynamodb.NewFromConfig(w.config(endpoint))}
	tb.name = "t" + strings.NewReplacer("/", ".", " ", "_").Replace(t.Name())
	tb.name = fmt.Sprintf("%.200s-%d", tb.name, time.Now().UnixNano())
	if err := cloud.CreateTable(t.Context(), tb.client, tb.name); err != nil {
		t.Fatal(err)
	}
	w.calls = nil
	return tb
}

// open takes true randomness: all tables of one server share the request tokens.
func (tb *table) open(c cloud.Calls, onUnits func(string, float64, float64)) *cloud.Store {
	c.Rand = nil
	return cloud.NewStore(tb.client, tb.name, cloud.StoreOptions{Calls: c, OnUnits: onUnits})
}

// raw is the item as the AWS console shows it.
func (tb *table) raw(t *testing.T, k store.Key) map[string]types.AttributeValue {
	t.Helper()
	out, err := tb.client.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: &tb.name, ConsistentRead: aws.Bool(true),
		Key: map[string]types.AttributeValue{
			"part": &types.AttributeValueMemberB{Value: []byte(k.Part)}, "sort": &types.AttributeValueMemberB{Value: []byte(k.Sort)}}})
	if err != nil {
		t.Fatal(err)
	}
	return out.Item
}

func TestDynamoDBLocal(t *testing.T) {
	t.Parallel()
	endpoint := localservers.DynamoDB(t)
	t.Run("conformance", func(t *testing.T) {
		t.Parallel()
		var wires sync.Map // *cloud.Store to the *wire under it
		storetest.Run(t, storetest.Harness{
			Slow: testing.Short(),
			New: func(t *testing.T, now func() time.Time) store.Store {
				tb := newTable(t, endpoint)
				s := tb.open(cloud.Calls{Now: now}, nil)
				wires.Store(s, tb.wire)
				return s
			},
			LoseAnswer: func(t *testing.T, s store.Store) {
				w, ok := wires.Load(s)
				if !ok {
					t.Fatal("unknown store")
				}
				w.(*wire).play(loseReply)
			},
		})
	})
	for name, test := range map[string]func(*testing.T, string){
		"schema":                testSchema,
		"lost acknowledgements": testLostAcknowledgements,
		"units":                 testUnits,
		"paging":                testPaging,
		"bounds":                testBounds,
		"many keys":             testManyKeys,
		"table":                 testTable,
		"account":               testAccount,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, endpoint)
		})
	}
}

func mustCommit(t *testing.T, s store.Store, ops ...store.Op) {
	t.Helper()
	if err := s.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
}

func mustGet(t *testing.T, s store.Store, k store.Key) store.Entry {
	t.Helper()
	e, err := s.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The attributes are persistent: changing them needs a migration.
func testSchema(t *testing.T, endpoint string) {
	tb := newTable(t, endpoint)
	s := tb.open(calls(new(waits)), nil)
	expires := epoch.Add(time.Hour)
	k := store.Key{Part: "p\x00\xff", Sort: "\xfe"}
	mustCommit(t, s, store.Op{Kind: store.Put, Key: k, Value: []byte(`{"name":"Ærø"}`), Expires: expires})
	it := tb.raw(t, k)
	if v, ok := it["value"].(*types.AttributeValueMemberS); !ok || v.Value != `{"name":"Ærø"}` {
		t.Errorf("JSON is kept as %#v, want a readable string", it["value"])
	}
	if v, ok := it["expires"].(*types.AttributeValueMemberN); !ok || v.Value != fmt.Sprint(expires.Unix()) {
		t.Errorf("expires is kept as %#v, want epoch seconds", it["expires"])
	}
	if v, ok := it["rev"].(*types.AttributeValueMemberS); !ok || len(v.Value) < 16 {
		t.Errorf("rev is kept as %#v", it["rev"])
	}
	if e := mustGet(t, s, k); e.Key != k || !e.Expires.Equal(expires.Truncate(time.Second)) {
		t.Errorf("read back %+v", e)
	}
	for _, v := range [][]byte{nil, {}, {0xff, 0}, []byte("\x00\u2028\"\\"), bytes.Repeat([]byte{'x'}, store.MaxValue), bytes.Repeat([]byte{0x80}, store.MaxValue)} {
		mustCommit(t, s, store.Op{Kind: store.Put, Key: k, Value: v})
		if e := mustGet(t, s, k); !bytes.Equal(e.Value, v) || !e.Expires.IsZero() {
			t.Errorf("value %.20q came back as %.20q, expires %v", v, e.Value, e.Expires)
		}
	}
	mustCommit(t, s, store.Op{Kind: store.Put, Key: k, Value: []byte{0xff}})
	if _, ok := tb.raw(t, k)["value"].(*types.AttributeValueMemberB); !ok {
		t.Error("a value that is not UTF-8 must be binary")
	}
}

func testLostAcknowledgements(t *testing.T, endpoint string) {
	tb := newTable(t, endpoint)
	s := tb.open(calls(new(waits)), nil)
	c := calls(new(waits))
	c.Rand = nil
	other := cloud.NewStore(dynamodb.NewFromConfig((&wire{t: t, next: awshttp.NewBuildableClient()}).config(endpoint)), tb.name, cloud.StoreOptions{Calls: c})
	live := func(sort string) bool {
		_, err := other.Get(t.Context(), key(sort))
		return err == nil
	}
	overwrite := func(sort string) func() {
		return func() {
			if err := other.Commit(t.Context(), store.Op{Kind: store.Put, Key: key(sort), Value: []byte("theirs")}); err != nil {
				t.Error(err)
			}
		}
	}
	value := func(sort string) string { return string(mustGet(t, other, key(sort)).Value) }

	t.Run("put was written", func(t *testing.T) {
		tb.play(loseReply)
		if err := s.Commit(t.Context(), absent(put("a"))); err != nil || !live("a") {
			t.Errorf("absent: %v", err)
		}
		tb.play(loseReply, loseReply)
		if err := s.Commit(t.Context(), ifRev(put("a"), mustGet(t, other, key("a")).Rev)); err != nil {
			t.Errorf("revision: %v", err)
		}
	})
	t.Run("put was not written", func(t *testing.T) {
		tb.play(loseRequest)
		if err := s.Commit(t.Context(), absent(put("b"))); err != nil || !live("b") {
			t.Error(err)
		}
	})
	t.Run("put, and others moved on", func(t *testing.T) {
		tb.play(loseReply, between(overwrite("c"), pass))
		if err := s.Commit(t.Context(), absent(put("c"))); !fault.Is(err, fault.Unknown) || store.IsConflict(err) || value("c") != "theirs" {
			t.Errorf("got %v, want unknown: our write did happen", err)
		}
	})
	t.Run("put without a condition gets a new revision", func(t *testing.T) {
		var seen store.Rev
		tb.play(loseReply, between(func() { seen = mustGet(t, other, key("d")).Rev }, pass))
		mustCommit(t, s, put("d"))
		if again := mustGet(t, other, key("d")).Rev; seen == "" || again == seen {
			t.Errorf("revisions %q and %q", seen, again)
		}
	})
	t.Run("delete", func(t *testing.T) {
		mustCommit(t, other, put("e"))
		rev := mustGet(t, other, key("e")).Rev
		tb.play(loseRequest)
		if err := s.Commit(t.Context(), ifRev(store.Op{Kind: store.Delete, Key: key("e")}, rev)); err != nil || live("e") {
			t.Errorf("not done before: %v", err)
		}
		mustCommit(t, other, put("e"))
		rev = mustGet(t, other, key("e")).Rev
		tb.play(loseReply)
		if err := s.Commit(t.Context(), ifRev(store.Op{Kind: store.Delete, Key: key("e")}, rev)); !fault.Is(err, fault.Unknown) || live("e") {
			t.Errorf("done before: got %v, want unknown: who deleted it cannot be told", err)
		}
		mustCommit(t, other, put("e"))
		tb.play(loseReply)
		if err := s.Commit(t.Context(), store.Op{Kind: store.Delete, Key: key("e")}); err != nil || live("e") {
			t.Errorf("without a condition: %v", err)
		}
	})
	t.Run("transaction was written", func(t *testing.T) {
		mustCommit(t, other, put("f"))
		f := mustGet(t, other, key("f")).Rev
		tb.play(loseReply, loseReply)
		err := s.Commit(t.Context(), absent(put("g")), ifRev(store.Op{Kind: store.Delete, Key: key("f")}, f))
		if err != nil || live("f") || !live("g") {
			t.Error(err)
		}
	})
	t.Run("transaction was written, and others moved on", func(t *testing.T) {
		tb.play(loseReply, between(overwrite("h"), pass))
		if err := s.Commit(t.Context(), absent(put("h")), put("i")); err != nil || value("h") != "theirs" {
			t.Errorf("the token must repeat the first outcome and nothing else: %v, %s", err, value("h"))
		}
	})
	t.Run("transaction was not written, and others were first", func(t *testing.T) {
		tb.play(loseRequest, between(overwrite("j"), pass))
		if err := s.Commit(t.Context(), absent(put("j")), put("k")); !store.IsConflict(err) || live("k") {
			t.Errorf("got %v, want a conflict", err)
		}
	})
	t.Run("reads", func(t *testing.T) {
		tb.play(loseReply, loseRequest)
		if e := mustGet(t, s, key("a")); e.Sort != "a" {
			t.Errorf("got %v", e)
		}
	})
}

// The table in the package documentation, checked for items of known sizes.
func testUnits(t *testing.T, endpoint string) {
	tb := newTable(t, endpoint)
	var got []string
	s := tb.open(calls(new(waits)), func(verb string, read, write float64) { got = append(got, fmt.Sprintf("%s %v/%v", verb, read, write)) })
	op := func(sort string, valueBytes int) store.Op {
		return store.Op{Kind: store.Put, Key: key(sort), Value: bytes.Repeat([]byte{'v'}, valueBytes)}
	}
	// part 4+1, sort 4+1, rev 3+20, value 5+n = 38+n bytes
	const fixed = 38
	del := func(sort string) store.Op { return store.Op{Kind: store.Delete, Key: key(sort)} }
	for _, tc := range []struct {
		what string
		do   func() error
		want string
	}{
		{"put of 1 KB", func() error { return s.Commit(t.Context(), op("a", 1024-fixed)) }, "put 0/1"},
		{"put of 1 KB and a byte", func() error { return s.Commit(t.Context(), op("b", 1025-fixed)) }, "put 0/2"},
		{"put over 9 KB, refused", func() error {
			mustCommit(t, s, op("c", 9000))
			got = nil
			return s.Commit(t.Context(), absent(op("c", 1)))
		}, "put 0/9"},
		{"delete refused", func() error { return s.Commit(t.Context(), ifRev(del("c"), "none")) }, "delete 0/9"},
		{"get of 1 KB", func() error { _, err := s.Get(t.Context(), key("a")); return err }, "get 1/0"},
		{"get of 9 KB", func() error { _, err := s.Get(t.Context(), key("c")); return err }, "get 3/0"},
		{"get of nothing", func() error { _, err := s.Get(t.Context(), key("none")); return err }, "get 1/0"},
		{"three at once", func() error { _, err := s.GetMany(t.Context(), key("a"), key("c"), key("none")); return err }, "getmany 5/0"},
		{"check", func() error { return s.Commit(t.Context(), absent(store.Op{Kind: store.Check, Key: key("none")})) }, "get 1/0"},
		{"range", func() error {
			for _, err := range s.Range(t.Context(), "p", "", "") {
				if err != nil {
					return err
				}
			}
			return nil
		}, "range 3/0"}, // 1024 + 1025 + 9038 bytes together
		{"transaction of a put, a check and a delete", func() error {
			return s.Commit(t.Context(), op("d", 2000), absent(store.Op{Kind: store.Check, Key: key("none")}), del("b"))
		}, "transact 0/8"},
		{"transaction refused by a 9 KB item", func() error { return s.Commit(t.Context(), put("e"), absent(op("c", 1))) }, "transact 0/20"},
		{"delete", func() error { return s.Commit(t.Context(), del("a")) }, "delete 0/1"},
	} {
		got = nil
		err := tc.do()
		if err != nil && !store.IsConflict(err) && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: %v", tc.what, err)
		}
		if len(got) != 1 || got[0] != tc.want {
			t.Errorf("%s: %q, want one request of %q", tc.what, got, tc.want)
		}
	}
}

func testPaging(t *testing.T, endpoint string) {
	tb := newTable(t, endpoint)
	s := tb.open(calls(new(waits)), nil)
	const n = 130
	for start := 0; start < n; start += 65 {
		var ops []store.Op
		for i := start; i < start+65; i++ {
			op := put(fmt.Sprintf("%03d", i))
			if i%2 == 1 {
				op.Expires = epoch // due at this very second: gone
			}
			ops = append(ops, op)
		}
		mustCommit(t, s, ops...)
	}
	tb.calls = nil
	i := 0
	for e, err := range s.Range(t.Context(), "p", "", "") {
		if err != nil || e.Sort != fmt.Sprintf("%03d", i) {
			t.Fatalf("entry %d: %v, %v", i, e, err)
		}
		i += 2
	}
	if i != n || len(tb.ops()) != 3 {
		t.Errorf("%d entries by %d requests, want %d by 3 (25, 100 and the rest)", i/2, len(tb.ops()), n/2)
	}
	tb.calls = nil
	for _, err := range s.Range(t.Context(), "p", "", "") {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if len(tb.ops()) != 1 {
		t.Errorf("stopping at the first entry took %v", tb.ops())
	}
	tb.play(pass, refuse(400, "AccessDeniedException"))
	var last error
	seen := 0
	for _, err := range s.Range(t.Context(), "p", "", "") {
		if last != nil {
			t.Fatal("the sequence went on after an error")
		}
		seen++
		last = err
	}
	if seen != 14 || !fault.Is(last, fault.Internal) { // 13 live entries of the first 25
		t.Errorf("%d steps, then %v", seen, last)
	}
}

func testBounds(t *testing.T, endpoint string) {
	s := newTable(t, endpoint).open(calls(new(waits)), nil)
	long := strings.Repeat("m", store.MaxSort)
	sorts := []string{"\x00", "\x00\x00", "a", "a\x00", "b", long, "é", "\xff", "\xff\xff"}
	var ops []store.Op
	for _, k := range sorts {
		ops = append(ops, put(k))
	}
	mustCommit(t, s, ops...)
	bounds := append([]string{"", long + "m", long + strings.Repeat("\xff", 200), long + strings.Repeat("\x00", 200), strings.Repeat("\xff", 1500)}, sorts...)
	for _, from := range bounds {
		for _, to := range bounds {
			var want, got []string
			for _, k := range sorts {
				if k >= from && (to == "" || k < to) {
					want = append(want, k)
				}
			}
			for e, err := range s.Range(t.Context(), "p", from, to) {
				if err != nil {
					t.Fatalf("from %.10q to %.10q: %v", from, to, err)
				}
				got = append(got, e.Sort)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("from %.10q (%d) to %.10q (%d): %.10q, want %.10q", from, len(from), to, len(to), got, want)
			}
		}
	}
}

func testManyKeys(t *testing.T, endpoint string) {
	tb := newTable(t, endpoint)
	s := tb.open(calls(new(waits)), nil)
	var keys []store.Key
	var ops []store.Op
	for i := range 60 { // 60 values of 300 KB are more than one answer may carry
		k := key(fmt.Sprint(i))
		keys = append(keys, k)
		if ops = append(ops, store.Op{Kind: store.Put, Key: k, Value: bytes.Repeat([]byte{'v'}, 300<<10)}); len(ops) == 10 {
			mustCommit(t, s, ops...)
			ops = nil
		}
	}
	for i := range 150 {
		keys = append(keys, key(fmt.Sprint("none", i)))
	}
	got, err := s.GetMany(t.Context(), keys...)
	if err != nil || len(got) != 60 {
		t.Errorf("%d entries, %v", len(got), err)
	}
}

func testTable(t *testing.T, endpoint string) {
	tb := newTable(t, endpoint)
	mustCommit(t, tb.open(calls(new(waits)), nil), put("a"))
	for range 2 { // both are repeatable
		if err := cloud.CreateTable(t.Context(), tb.client, tb.name); err != nil {
			t.Error(err)
		}
		if err := cloud.EnableTTL(t.Context(), tb.client, tb.name); err != nil {
			t.Error(err)
		}
	}
	out, err := tb.client.DescribeTimeToLive(t.Context(), &dynamodb.DescribeTimeToLiveInput{TableName: &tb.name})
	if err != nil || aws.ToString(out.TimeToLiveDescription.AttributeName) != "expires" {
		t.Errorf("%+v, %v", out, err)
	}
	if tb.raw(t, key("a")) == nil {
		t.Error("making the table again lost its items")
	}
}

// The path that mains take: settings, account, store.
func testAccount(t *testing.T, endpoint string) {
	account, err := cloud.Open(cloud.Settings{Endpoints: cloud.Endpoints{All: endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	if err := account.CreateTable(t.Context(), "account"); err != nil {
		t.Fatal(err)
	}
	s := account.Store("account", cloud.StoreOptions{})
	mustCommit(t, s, absent(put("a")))
	if err := s.Commit(t.Context(), absent(put("a"))); !store.IsConflict(err) {
		t.Errorf("got %v, want a conflict", err)
	}
}
