package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/store"
)

// keepCertificates is how long the certificate of a run is kept: ten years, as books are. Who must keep it longer keeps the file.
const keepCertificates = 3660 * 24 * time.Hour

// Certified is the end of the chain of certificates: each names the hash of the one before.
type Certified struct {
	Run  string `json:"run"`
	Hash string `json:"hash"`
	rev  store.Rev
}

// CertificateKey is a public key that certificates were signed with.
type CertificateKey struct {
	ID    string    `json:"id"`
	PEM   string    `json:"pem"`
	Since time.Time `json:"since"`
}

func certificateKey(run string) store.Key {
	return store.Key{Part: key(schema, "certificate", run), Sort: "file"}
}
func certifiedKey() store.Key { return store.Key{Part: key(schema, "certified"), Sort: "last"} }
func certificateKeyKey(id string) store.Key {
	return store.Key{Part: key(schema, "certificatekey"), Sort: key(id)}
}

// LastCertified is the newest certificate, or nothing.
func (l *Ledger) LastCertified(ctx context.Context) (Certified, error) {
	e, err := l.store.Get(ctx, certifiedKey())
	if errors.Is(err, store.ErrNotFound) {
		return Certified{}, nil
	}
	if err != nil {
		return Certified{}, classify("ledger.certified", "", err)
	}
	out := Certified{rev: e.Rev}
	return out, fault.Wrap(fault.Internal, "ledger.certified", "", json.Unmarshal(e.Value, &out))
}

// SaveCertificate keeps the certificate of a run, whose hash is given, behind the one that LastCertified told, and publishes its
// key. fault.Conflict: the run has one, or another run was certified meanwhile.
func (l *Ledger) SaveCertificate(ctx context.Context, run string, file []byte, hash string, after Certified, k CertificateKey) error {
	var b batch
	b.add(store.Op{Kind: store.Put, Key: certificateKey(run), Value: file, Absent: true, Expires: expiry(l.now().UTC(), keepCertificates)})
	b.put(store.Op{Key: certifiedKey(), IfRev: after.rev, Absent: after.rev == ""}, Certified{Run: run, Hash: hash})
	switch _, err := l.store.Get(ctx, certificateKeyKey(k.ID)); {
	case errors.Is(err, store.ErrNotFound):
		k.Since = l.now().UTC()
		b.put(store.Op{Key: certificateKeyKey(k.ID)}, k)
	case err != nil:
		return classify("ledger.certificate", run, err)
	}
	return l.commit(ctx, "ledger.certificate", run, &b)
}

// Certificate reads the certificate of a run.
func (l *Ledger) Certificate(ctx context.Context, run string) ([]byte, error) {
	e, err := l.one(ctx, certificateKey(run), &fault.Error{Class: fault.NotFound, Op: "ledger.certificate", ID: run, Detail: "no certificate of that run",
		Remedy: "a run has one when it has ended, and if there is a key: sorrel reconcile key --new"})
	return e.Value, err
}

// CertificateKeys lists the public keys that certificates were signed with, the newest first.
func (l *Ledger) CertificateKeys(ctx context.Context) ([]CertificateKey, error) {
	out := []CertificateKey{}
	for e, err := range l.store.Range(ctx, certificateKeyKey("x").Part, "\x00", "") {
		if err != nil {
			return nil, classify("ledger.certificatekeys", "", err)
		}
		var k CertificateKey
		if err := json.Unmarshal(e.Value, &k); err != nil {
			return nil, fault.Wrap(fault.Internal, "ledger.certificatekeys", e.Key.String(), err)
		}
		out = append(out, k)
	}
	slices.SortStableFunc(out, func(a, b CertificateKey) int { return b.Since.Compare(a.Since) })
	return out, nil
}
