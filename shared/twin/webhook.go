package twin

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// Webhook is one message that the vendor wants delivered. Request builds a fresh HTTP request for one attempt
// to the given URL, signed at that moment. After decides from an attempt's answer (status 0 = none) whether
// and when the vendor tries again; nil means it never does. Retry is After for vendors whose rules look at the
// answer's header, and wins over it. To, if not nil, says before each attempt where it goes instead of where
// webhooks go: a receiver that moved gets what is tried again.
type Webhook struct {
	To      func() string
	Request func(url string) (*http.Request, error)
	After   func(attempt, status int, body []byte) (wait time.Duration, again bool)
	Retry   func(attempt, status int, header http.Header) (wait time.Duration, again bool)
}

// Again says whether and when the vendor tries again after an attempt's answer.
func (w Webhook) Again(attempt, status int, header http.Header, body []byte) (wait time.Duration, again bool) {
	switch {
	case w.Retry != nil:
		return w.Retry(attempt, status, header)
	case w.After != nil:
		return w.After(attempt, status, body)
	}
	return 0, false
}

// inFlightHooks bounds webhooks being sent at once; more wait their turn, as at a vendor.
const inFlightHooks = 32

type sender struct {
	kit    *Kit
	client *http.Client
	slots  chan struct{}

	mu      sync.Mutex
	by      func(Webhook) // sends instead of the kit; nil = nobody
	url     string
	held    []Webhook // by the reorder fault, each to go after later ones
	pending int
	idle    chan struct{} // closed whenever pending is zero
}

func newSender(k *Kit) *sender {
	idle := make(chan struct{})
	close(idle)
	return &sender{kit: k, slots: make(chan struct{}, inFlightHooks), idle: idle,
		client: &http.Client{Timeout: 12 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: inFlightHooks}}}
}

// SendTo sets where webhooks go; an empty url stops them.
func (k *Kit) SendTo(url string) {
	k.hooks.mu.Lock()
	k.hooks.url = url
	k.hooks.mu.Unlock()
}

// SendBy has somebody else send webhooks: it gets each when it is made, while the twin is locked, so it must only take it
// down. There are no connections, goroutines and real time in that, and Drain waits for nothing. It is to be said before
// anything happens.
func (k *Kit) SendBy(send func(Webhook)) { k.hooks.mu.Lock(); k.hooks.by = send; k.hooks.mu.Unlock() }

// Target returns where webhooks go.
func (k *Kit) Target() string { k.hooks.mu.Lock(); defer k.hooks.mu.Unlock(); return k.hooks.url }

// Push sends a webhook in the background, subject to the faults in force. With no target it is not made.
func (k *Kit) Push(w Webhook) {
	if w.To == nil && k.Target() == "" {
		return
	}
	k.mu.Lock()
	f := k.faults
	drop, twice, hold := k.chance(f.DropWebhooks), k.chance(f.DuplicateWebhooks), k.chance(f.ReorderWebhooks)
	k.stats.Webhooks.Made++
	switch {
	case drop:
		k.stats.Webhooks.Dropped++
	case hold:
		k.stats.Webhooks.Reordered++
	case twice:
		k.stats.Webhooks.Duplicated++
	}
	k.mu.Unlock()
	switch {
	case drop:
	case hold:
		k.hooks.hold(w)
	default:
		k.hooks.start(w)
		if twice {
			k.hooks.start(w)
		}
		k.hooks.releaseOne()
	}
}

// maxHeld is how many webhooks the reorder fault keeps back at most.
const maxHeld = 8

func (s *sender) hold(w Webhook) {
	s.mu.Lock()
	s.held = append(s.held, w)
	full := len(s.held) > maxHeld
	s.mu.Unlock()
	if full {
		s.releaseOne()
	}
}

func (s *sender) releaseOne() {
	s.mu.Lock()
	var w *Webhook
	if len(s.held) > 0 {
		w = &s.held[0]
		s.held = s.held[1:]
	}
	s.mu.Unlock()
	if w != nil {
		s.start(*w)
	}
}

func (s *sender) releaseHeld() {
	s.mu.Lock()
	held := s.held
	s.held = nil
	s.mu.Unlock()
	for _, w := range held {
		s.start(w)
	}
}

func (s *sender) start(w Webhook) {
	s.mu.Lock()
	if s.by != nil {
		defer s.mu.Unlock()
		s.by(w)
		return
	}
	if s.pending == 0 {
		s.idle = make(chan struct{})
	}
	s.pending++
	s.mu.Unlock()
	go s.deliver(w)
}

func (s *sender) deliver(w Webhook) {
	defer func() {
		s.mu.Lock()
		s.pending--
		if s.pending == 0 {
			close(s.idle)
		}
		s.mu.Unlock()
	}()
	for attempt := 1; ; attempt++ {
		url := s.target(w)
		if url == "" { // nobody listens any more
			return
		}
		status, header, body := s.attempt(w, url)
		s.kit.mu.Lock()
		s.kit.stats.Webhooks.Sent++
		if status < 200 || status > 299 {
			s.kit.stats.Webhooks.Refused++
		}
		s.kit.mu.Unlock()
		wait, again := w.Again(attempt, status, header, body)
		if !again {
			return
		}
		s.kit.mu.Lock()
		s.kit.stats.Webhooks.Retried++
		s.kit.mu.Unlock()
		<-time.After(wait)
	}
}

func (s *sender) target(w Webhook) string {
	if w.To != nil {
		return w.To()
	}
	return s.kit.Target()
}

func (s *sender) attempt(w Webhook, url string) (int, http.Header, []byte) {
	s.slots <- struct{}{}
	defer func() { <-s.slots }()
	req, err := w.Request(url)
	if err != nil {
		return 0, nil, nil
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return 0, nil, nil
	}
	return resp.StatusCode, resp.Header, body
}

// Drain lets held webhooks go and waits until none is under way.
func (k *Kit) Drain(ctx context.Context) error {
	k.hooks.releaseHeld()
	k.hooks.mu.Lock()
	idle := k.hooks.idle
	k.hooks.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
