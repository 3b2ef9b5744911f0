package ledger

import (
	"testing"

	"sorrel/shared/fault"
)

func TestCertificates(t *testing.T) {
	t.Parallel()
	l, _ := metered()
	ctx := t.Context()
	none, err := l.LastCertified(ctx)
	if err != nil || none.Run != "" {
		t.Fatalf("the last of none is %+v, %v", none, err)
	}
	if _, err := l.Certificate(ctx, "R1"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the certificate of a run without one: %v", err)
	}
	one, two := CertificateKey{ID: "k1", PEM: "one"}, CertificateKey{ID: "k2", PEM: "two"}
	if err := l.SaveCertificate(ctx, "R1", []byte("first"), "h1", none, one); err != nil {
		t.Fatal(err)
	}
	for run, after := range map[string]Certified{"R2": none, "R1": {Run: "R1", Hash: "h1"}} {
		if err := l.SaveCertificate(ctx, run, []byte("other"), "h", after, one); !fault.Is(err, fault.Conflict) {
			t.Errorf("a second certificate of %s after %+v: %v", run, after, err)
		}
	}
	last, err := l.LastCertified(ctx)
	if err != nil || last.Run != "R1" || last.Hash != "h1" {
		t.Fatalf("the last is %+v, %v", last, err)
	}
	if err := l.SaveCertificate(ctx, "R1", []byte("other"), "h", last, one); !fault.Is(err, fault.Conflict) {
		t.Errorf("a run is certified twice: %v", err)
	}
	if err := l.SaveCertificate(ctx, "R2", []byte("second"), "h2", last, two); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Certificate(ctx, "R1"); err != nil || string(got) != "first" {
		t.Errorf("kept %q, %v", got, err)
	}
	keys, err := l.CertificateKeys(ctx)
	if err != nil || len(keys) != 2 || keys[0].ID == keys[1].ID || keys[0].PEM == "" || keys[0].Since.IsZero() {
		t.Errorf("keys %+v, %v", keys, err)
	}
}
