package reconcile

import (
	"unicode/utf8"

	"sorrel/shared/certificate"
)

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
