package reconcile_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"sorrel/shared/certificate"
	"sorrel/shared/fault"
	"sorrel/shared/flow/reconcile"
)

// Each run that ends has one certificate, which says what its report says and names the one before.
func TestRunsAreCertified(t *testing.T) {
	t.Parallel()
	w := newWorld(t, grouped(), false)
	key, err := certificate.NewKey(bytes.NewReader(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	w.key = func(context.Context) (*certificate.Key, error) { return key, nil }
	w.wire()
	for _, id := range []string{"1", "2", "3"} {
		w.tell(w.save(id, "Customer "+id, noon.Add(-48*time.Hour)))
	}
	w.hear()
	w.now = w.now.Add(24 * time.Hour)
	w.save("2", "Customer two", w.now.Add(-time.Hour))
	previous := ""
	for _, wish := range []reconcile.Wish{{}, {Full: true}} {
		r := w.run(wish)
		file, err := w.flow.Certificate(t.Context(), r.ID)
		if err != nil {
			t.Fatal(err)
		}
		c, err := certificate.Read(file)
		if err == nil {
			err = c.Verify(key.Public())
		}
		if err != nil {
			t.Fatal(err)
		}
		s, set := c.Statement, r.Sets[0]
		if s.Run != r.ID || !s.Ended.Equal(r.Ended) || s.Previous != previous || len(s.Sets) != 1 || s.Sets[0].Equal != set.Equal || s.Sets[0].Hub.Hash != set.Roots.Hub.Hash || s.Sets[0].Hub.Hash == "" {
			t.Errorf("certified %+v, reported %+v", s, r)
		}
		if wish.Full && s.Sets[0].Hub != s.Sets[0].Provider {
			t.Errorf("after healing both sides have one root: %+v", s.Sets[0])
		}
		if open := s.Open(); len(open) > 0 {
			t.Errorf("all was healed, and yet: %v", open)
		}
		previous = c.Hash()
		w.hear()
		w.now = w.now.Add(time.Hour)
	}
	keys, err := w.flow.Keys(t.Context())
	if err != nil || len(keys) != 1 || keys[0].ID != key.Public().ID() {
		t.Errorf("published %+v, %v", keys, err)
	}
}

// A run ends without a certificate where there is no usable key, and waits for one that cannot be read just now.
func TestKeysThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]func(context.Context) (*certificate.Key, error){
		"none":   func(context.Context) (*certificate.Key, error) { return nil, nil },
		"broken": func(context.Context) (*certificate.Key, error) { return certificate.ReadKey([]byte("x")) },
	} {
		w := newWorld(t, grouped(), false)
		w.key = key
		w.wire()
		r := w.run(reconcile.Wish{})
		if _, err := w.flow.Certificate(t.Context(), r.ID); r.State != reconcile.Done || !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %s, certificate: %v", name, r.State, err)
		}
	}
	w := newWorld(t, grouped(), false)
	good, err := certificate.NewKey(bytes.NewReader(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	down := 2
	w.key = func(context.Context) (*certificate.Key, error) {
		if down--; down >= 0 {
			return nil, fault.Wrap(fault.Down, "vault", "", errors.New("throttled"))
		}
		return good, nil
	}
	w.wire()
	r := w.run(reconcile.Wish{})
	if _, err := w.flow.Certificate(t.Context(), r.ID); err != nil || down >= 0 {
		t.Errorf("no certificate when the key can be read again: %v", err)
	}
}
