package reconcile

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"sorrel/shared/certificate"
)

// Whatever a report says, its statement can be signed, and says the same numbers.
func TestStatementOfAReport(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)
	r := Report{ID: "R", State: Done, Mode: Full, By: strings.Repeat("ö", certificate.MaxText), Started: at, Ended: at, Config: "c", Policy: "p",
		Sets: []Set{{Platform: "netsuite", Object: "customer", Entity: "customer", State: Done, AsOf: at, There: 7, Here: 6, Compared: 8, Equal: 5, Unexplained: 1,
			Drift: []Tally{{Kind: Missing, Found: 2, Healed: 1, Excepted: 1, Samples: []Sample{{ID: "never told"}}}, {Kind: Extra, Found: 1, Healed: 1}},
			Roots: Roots{Hub: Root{Records: 7, Hash: hex.EncodeToString(make([]byte, 32))}}, Exceptions: make([]string, certificate.MaxExceptions+1), Limits: make([]string, certificate.MaxLimits+1)}, {}}}
	key, err := certificate.NewKey(bytes.NewReader(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	file, err := key.Sign(r.Statement(""))
	if err != nil {
		t.Fatal(err)
	}
	c, err := certificate.Read(file)
	if err != nil || c.Verify(key.Public()) != nil {
		t.Fatal(err)
	}
	got := c.Statement.Sets[0]
	if got.There != 7 || got.Here != 6 || got.Compared != 8 || got.Equal != 5 || got.Unexplained != 1 || got.Unlisted != 1 || got.Hub.Records != 7 ||
		len(got.Drift) != 2 || got.Drift[0] != (certificate.Drift{Kind: "missing", Found: 2, Healed: 1, Excepted: 1}) {
		t.Errorf("the statement says %+v", got)
	}
	if open := c.Statement.Open(); len(open) != 3 {
		t.Errorf("open: %q", open)
	}
	for range 4 {
		r.Sets = append(r.Sets, r.Sets[0])
	}
	listed, unlisted := 0, 0
	for _, set := range r.Statement("").Sets {
		listed, unlisted = listed+len(set.Exceptions), unlisted+set.Unlisted
	}
	if listed != maxListed || listed+unlisted != 5*(certificate.MaxExceptions+1) {
		t.Errorf("%d exceptions are listed and %d are not", listed, unlisted)
	}
	if bytes.Contains(file, []byte("never told")) {
		t.Error("a certificate holds a native id")
	}
}
