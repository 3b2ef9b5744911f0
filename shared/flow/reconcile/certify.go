package reconcile

import (
	"context"
	"unicode/utf8"

	"sorrel/shared/certificate"
	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/telemetry"
)

// certify signs what a run that has ended came to, and keeps that before the run is over: so one that dies here does it again. It
// returns the report with the end that was certified. A key that cannot be used stops no run; it is told.
func (f *Flow) certify(ctx context.Context, r Report) (Report, error) {
	if f.d.Key == nil {
		return r, nil
	}
	key, err := f.d.Key(ctx)
	if err != nil && fault.ClassOf(err) != fault.Contract {
		return r, err
	}
	if err != nil || key == nil {
		f.d.Telemetry.Event(ctx, telemetry.Event{Step: "not-certified", Trace: r.ID, Detail: "no usable key for certificates", Err: err})
		return r, nil
	}
	switch file, err := f.d.Ledger.Certificate(ctx, r.ID); {
	case err == nil:
		signed, err := certificate.Read(file)
		r.Ended = signed.Statement.Ended
		return r, err
	case !fault.Is(err, fault.NotFound):
		return r, err
	}
	whole, err := f.Show(ctx, r.ID) // what the head leaves out
	if err != nil {
		return r, err
	}
	whole.State, whole.Reason, whole.Ended = r.State, r.Reason, r.Ended
	last, err := f.d.Ledger.LastCertified(ctx)
	if err != nil {
		return r, err
	}
	file, err := key.Sign(whole.Statement(last.Hash))
	if err != nil {
		return r, err
	}
	public, err := key.Public().PEM()
	if err != nil {
		return r, err
	}
	return r, f.d.Ledger.SaveCertificate(ctx, r.ID, file, certificate.Hash(file), last, ledger.CertificateKey{ID: key.Public().ID(), PEM: string(public)})
}

// Certificate is the certificate of a run, as signed.
func (f *Flow) Certificate(ctx context.Context, id string) ([]byte, error) {
	return f.d.Ledger.Certificate(ctx, id)
}

// Keys are the public keys of certificates, the newest first.
func (f *Flow) Keys(ctx context.Context) ([]ledger.CertificateKey, error) {
	return f.d.Ledger.CertificateKeys(ctx)
}

// maxListed is how many exceptions a certificate lists over all sets, so that it can be kept as one entry of the ledger.
const maxListed = 2000

// Statement is what a certificate says of the run. previous is the hash of the certificate before, or "".
func (r Report) Statement(previous string) certificate.Statement {
	s := certificate.Statement{Run: r.ID, Mode: string(r.Mode), State: r.State, DryRun: r.DryRun, By: short(r.By), Started: r.Started, Ended: r.Ended,
		Config: r.Config, Policy: r.Policy, Previous: previous}
	room := maxListed
	for _, set := range r.Sets {
		listed := set.Exceptions[:min(len(set.Exceptions), certificate.MaxExceptions, room)]
		room -= len(listed)
		c := certificate.Set{Platform: set.Platform, Object: set.Object, Entity: set.Entity, State: set.State, AsOf: set.AsOf,
			There: set.There, Here: set.Here, Compared: set.Compared, Equal: set.Equal, Capped: set.Capped, Unexplained: set.Unexplained,
			Hub: certificate.Root(set.Roots.Hub), Provider: certificate.Root(set.Roots.Platform), Exceptions: listed, Unlisted: len(set.Exceptions) - len(listed)}
		for _, t := range set.Drift {
			c.Drift = append(c.Drift, certificate.Drift{Kind: string(t.Kind), Found: t.Found, Healed: t.Healed, Excepted: t.Excepted})
		}
		for _, l := range set.Limits[:min(len(set.Limits), certificate.MaxLimits)] {
			c.Limits = append(c.Limits, short(l))
		}
		s.Sets = append(s.Sets, c)
	}
	return s
}

// short cuts a text to what a certificate may hold.
func short(text string) string {
	if len(text) <= certificate.MaxText {
		return text
	}
	n := certificate.MaxText - len("…")
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}
