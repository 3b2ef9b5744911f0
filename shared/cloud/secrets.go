package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"sorrel/shared/fault"
)

// SecretsAPI is what Secrets needs of a *secretsmanager.Client.
type SecretsAPI interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

const (
	secretTTL      = 5 * time.Minute  // after which a rotation is noticed by itself
	secretMinAge   = 30 * time.Second // between two reads, however many signatures mismatch
	secretMaxStale = time.Hour        // for which a copy serves on while Secrets Manager does not answer
)

// Secrets reads one secret of Secrets Manager: a flat JSON object of strings. Each name has its current value and,
// when it differs, the previous one (stage AWSPREVIOUS), so that signatures made before a rotation still verify.
// It is safe for concurrent use, keeps the values only in memory and never prints them, with any verb.
type Secrets struct {
	api   SecretsAPI
	id    string
	calls *caller

	lock    chan struct{} // holds one token; a mutex that heeds the context
	values  map[string][]string
	read    time.Time // when values were read
	tried   time.Time // when a read was last attempted
	lastErr error     // of the read at tried
}

// NewSecrets returns the reader of the secret with the given name or ARN. Nothing is read yet.
func NewSecrets(api SecretsAPI, id string, c Calls) *Secrets {
	return &Secrets{api: api, id: id, calls: newCaller(c), lock: make(chan struct{}, 1)}
}

// Format implements fmt.Formatter for every verb: the identity without the values.
func (s *Secrets) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "cloud.Secrets(%s, values redacted)", s.id)
}

// MarshalText keeps the values out of JSON and structured logs.
func (s *Secrets) MarshalText() ([]byte, error) { return []byte(fmt.Sprint(s)), nil }

// Secrets returns, by name, the current value and the previous one if it differs. The result is the caller's own copy,
// and its to keep out of logs. Values are at most five minutes old, or one hour while Secrets Manager does not answer.
func (s *Secrets) Secrets(ctx context.Context) (map[string][]string, error) {
	unlock, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	now := s.calls.now()
	if s.values == nil || now.Sub(s.read) >= secretTTL {
		if s.tried.IsZero() || now.Sub(s.tried) >= secretMinAge {
			s.fetch(ctx, now)
		}
		if s.lastErr != nil && (s.values == nil || now.Sub(s.read) >= secretMaxStale) {
			return nil, s.lastErr
		}
	}
	out := make(map[string][]string, len(s.values))
	for name, v := range s.values {
		out[name] = slices.Clone(v)
	}
	return out, nil
}

// Refresh reads the secret again, for a signature that no known value verifies, unless it was read in the last 30
// seconds. It reports whether any value has changed, that is, whether to verify once more.
func (s *Secrets) Refresh(ctx context.Context) (changed bool, err error) {
	unlock, err := s.acquire(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	now := s.calls.now()
	if !s.tried.IsZero() && now.Sub(s.tried) < secretMinAge {
		return false, nil
	}
	before := s.values
	s.fetch(ctx, now)
	return s.lastErr == nil && !maps.EqualFunc(before, s.values, slices.Equal), s.lastErr
}

func (s *Secrets) acquire(ctx context.Context) (func(), error) {
	select {
	case s.lock <- struct{}{}:
		return func() { <-s.lock }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("cloud.secrets(%s): %w", s.id, ctx.Err())
	}
}

// fetch replaces values, or sets lastErr and keeps them. A read that the caller's context ended says nothing about
// Secrets Manager and does not count as tried.
func (s *Secrets) fetch(ctx context.Context, now time.Time) {
	values, err := s.load(ctx)
	if s.lastErr = err; err == nil {
		s.values, s.read, s.tried = values, now, now
	} else if ctx.Err() == nil {
		s.tried = now
	}
}

func (s *Secrets) load(ctx context.Context) (map[string][]string, error) {
	current, err := s.stage(ctx, "AWSCURRENT")
	if err != nil {
		return nil, err
	}
	previous, err := s.stage(ctx, "AWSPREVIOUS")
	if missing := (*types.ResourceNotFoundException)(nil); err != nil && !errors.As(err, &missing) {
		return nil, err
	}
	out := make(map[string][]string, len(current))
	for name, v := range current {
		out[name] = []string{v}
		if old, ok := previous[name]; ok && old != v {
			out[name] = append(out[name], old)
		}
	}
	return out, nil
}

func (s *Secrets) stage(ctx context.Context, stage string) (map[string]string, error) {
	var out *secretsmanager.GetSecretValueOutput
	o := s.calls.do(ctx, 0, func(ctx context.Context) (err error) {
		out, err = s.api.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.id, VersionStage: &stage},
			func(o *secretsmanager.Options) { o.Retryer = aws.NopRetryer{} })
		return err
	})
	if o.err != nil {
		return nil, o.readFault("cloud.secrets", s.id+" "+stage)
	}
	bad := func(detail string, fields ...string) error {
		return &fault.Error{Class: fault.Contract, Op: "cloud.secrets", ID: s.id + " " + stage, Detail: detail, Fields: fields,
			Remedy: "store one flat JSON object of strings"}
	}
	// The decoder's own message may quote the secret, so it is not passed on.
	var raw map[string]json.RawMessage
	if json.Unmarshal([]byte(deref(out.SecretString)), &raw) != nil || raw == nil {
		return nil, bad("is not a JSON object")
	}
	values := make(map[string]string, len(raw))
	for name, r := range raw {
		var v *string
		if json.Unmarshal(r, &v) != nil || v == nil {
			return nil, bad("has a value that is not a string", name)
		}
		values[name] = *v
	}
	return values, nil
}
