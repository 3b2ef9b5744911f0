package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"sorrel/shared/deadline"
)

// Options of a sender.
type Options struct {
	Address     func() string // host:port of the peer, asked before every dial: it may have been restarted
	Connections int
	Orders      int
	Seed        uint64
	Repeats     float64 // share of exact repeats
	Forged      float64 // share of wrong signatures
	Tracker     *Tracker
	Now         func() time.Time
}

// Standard is the mix of all measurements.
func Standard(o Options) Options {
	o.Repeats, o.Forged = 0.10, 0.01
	return o
}

// Sender holds the connections and what each has sent. Runs follow each other; they are not concurrent.
type Sender struct {
	o     Options
	lanes []*lane
}

// lane is one connection with the orders that are bound to it.
type lane struct {
	o      *Options
	rng    *rand.Rand
	signer *signer
	conn   net.Conn
	in     *bufio.Reader
	orders []int
	revs   []int
	next   int
	recent [][]byte // requests of the last events, for repeats
	at     int
	buf    []byte
	body   []byte
	out    Sent
}

// Sent is what a run did.
type Sent struct {
	Requests int             `json:"requests"`
	First    int             `json:"first"`   // first sends answered 2xx
	Repeats  int             `json:"repeats"` // repeats answered 2xx
	Forged   int             `json:"forged"`  // wrong signatures answered 401
	Wrong    int             `json:"wrong"`   // anything else
	Took     time.Duration   `json:"took"`
	Ack      []time.Duration `json:"-"` // send to answer
}

// NewSender returns a sender; connections are made when they are needed.
func NewSender(o Options) *Sender {
	s := &Sender{o: o}
	keep := max(1, 500/o.Connections)
	for i := range o.Connections {
		l := &lane{o: &s.o, rng: rand.New(rand.NewPCG(o.Seed, uint64(i))), signer: newSigner(), recent: make([][]byte, 0, keep)}
		for n := 1 + i; n <= o.Orders; n += o.Connections {
			l.orders = append(l.orders, n)
		}
		l.revs = make([]int, len(l.orders))
		s.lanes = append(s.lanes, l)
	}
	return s
}

// Close closes the connections.
func (s *Sender) Close() {
	for _, l := range s.lanes {
		l.hangUp()
	}
}

// Closed sends for d, and one request per connection at least: the next request of a connection as soon as the last one is answered. With paced set an
// order's next event waits until a target has seen its last one, so that nothing can be merged on the way.
func (s *Sender) Closed(ctx context.Context, d time.Duration, paced bool) (Sent, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return s.run(func(l *lane) error {
		for first := true; first || ctx.Err() == nil; first = false {
			which, ready := l.pick(paced)
			if !ready {
				_ = deadline.Pause(ctx, 200*time.Microsecond)
				continue
			}
			if err := l.event(which, time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Count sends n events over all connections, paced.
func (s *Sender) Count(ctx context.Context, n int) (Sent, error) {
	return s.run(func(l *lane) error {
		for range n / len(s.lanes) {
			for {
				which, ready := l.pick(true)
				if ready {
					if err := l.event(which, time.Time{}); err != nil {
						return err
					}
					break
				}
				if deadline.Pause(ctx, 200*time.Microsecond) != nil {
					return ctx.Err()
				}
			}
		}
		return nil
	})
}

// Open sends at random moments, rate a second on average, for d. An answer is timed from the moment when its
// request should have left if the connection was still busy then, so that a slow peer cannot hide its delay.
func (s *Sender) Open(ctx context.Context, d time.Duration, rate float64) (Sent, error) {
	start := s.o.Now()
	return s.run(func(l *lane) error {
		due := start
		for {
			due = due.Add(time.Duration(l.rng.ExpFloat64() * float64(len(s.lanes)) / rate * float64(time.Second)))
			if due.Sub(start) > d {
				return nil
			}
			from := due
			if wait := due.Sub(s.o.Now()); wait > 0 {
				if deadline.Pause(ctx, wait) != nil {
					return ctx.Err()
				}
				from = time.Time{}
			}
			which, _ := l.pick(false)
			if err := l.event(which, from); err != nil {
				return err
			}
		}
	})
}

func (s *Sender) run(work func(*lane) error) (Sent, error) {
	start := s.o.Now()
	errs := make([]error, len(s.lanes))
	var wg sync.WaitGroup
	for i, l := range s.lanes {
		l.out = Sent{}
		if len(l.orders) > 0 {
			wg.Go(func() { errs[i] = work(l) })
		}
	}
	wg.Wait()
	all := Sent{Took: s.o.Now().Sub(start)}
	for _, l := range s.lanes {
		all.Requests += l.out.Requests
		all.First += l.out.First
		all.Repeats += l.out.Repeats
		all.Forged += l.out.Forged
		all.Wrong += l.out.Wrong
		all.Ack = append(all.Ack, l.out.Ack...)
	}
	return all, errors.Join(errs...)
}

// pick takes the order whose turn it is.
func (l *lane) pick(paced bool) (int, bool) {
	for range l.orders {
		i := l.next
		l.next = (l.next + 1) % len(l.orders)
		if !paced || l.o.Tracker.idle(l.orders[i]) {
			return i, true
		}
	}
	return 0, false
}

// event sends one event: mostly the next revision of the order, sometimes a repeat or a forgery.
func (l *lane) event(which int, from time.Time) error {
	now := l.o.Now()
	switch r := l.rng.Float64(); {
	case r < l.o.Forged:
		l.body = AppendOrder(l.body[:0], 0, 1, "forged-"+strconv.Itoa(l.out.Requests), now)
		l.buf = l.signer.appendRequest(l.buf[:0], l.body, now, true)
		status, err := l.exchange(l.buf, now, from)
		return l.count(&l.out.Forged, status == 401, err)
	case r < l.o.Forged+l.o.Repeats && len(l.recent) > 0:
		status, err := l.exchange(l.recent[l.rng.IntN(len(l.recent))], now, from)
		return l.count(&l.out.Repeats, status/100 == 2, err)
	}
	n := l.orders[which]
	l.revs[which]++
	rev := l.revs[which]
	l.body = AppendOrder(l.body[:0], n, rev, fmt.Sprintf("e-%d-%d", n, rev), now)
	request := l.remember()
	request = l.signer.appendRequest(request, l.body, now, false)
	l.keep(request)
	l.o.Tracker.sent(n, rev, now)
	status, err := l.exchange(request, now, from)
	if status/100 == 2 {
		l.o.Tracker.accepted(n, rev)
	}
	return l.count(&l.out.First, status/100 == 2, err)
}

func (l *lane) count(as *int, good bool, err error) error {
	l.out.Requests++
	if good {
		*as++
	} else if err == nil {
		l.out.Wrong++
	}
	return err
}

// remember gives the buffer of the oldest remembered request; keep puts it back.
func (l *lane) remember() []byte {
	if len(l.recent) < cap(l.recent) {
		return nil
	}
	l.at = (l.at + 1) % len(l.recent)
	return l.recent[l.at][:0]
}

func (l *lane) keep(b []byte) {
	if len(l.recent) < cap(l.recent) {
		l.recent = append(l.recent, b)
		return
	}
	l.recent[l.at] = b
}

func (l *lane) exchange(request []byte, start, from time.Time) (int, error) {
	if from.IsZero() {
		from = start
	}
	if l.conn == nil {
		if err := l.dial(); err != nil {
			return 0, err
		}
	}
	if _, err := l.conn.Write(request); err != nil {
		l.hangUp()
		return 0, fmt.Errorf("load: sending: %w", err)
	}
	status, err := answer(l.in)
	if err != nil {
		l.hangUp()
		return 0, fmt.Errorf("load: reading the answer: %w", err)
	}
	l.out.Ack = append(l.out.Ack, l.o.Now().Sub(from))
	return status, nil
}

func (l *lane) dial() error {
	conn, err := net.DialTimeout("tcp", l.o.Address(), 30*time.Second)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	l.conn, l.in = conn, bufio.NewReaderSize(conn, 4<<10)
	return nil
}

func (l *lane) hangUp() {
	if l.conn != nil {
		_ = l.conn.Close() // whatever it held is lost either way
		l.conn = nil
	}
}

// answer reads one HTTP/1.1 answer that has a Content-Length, and returns its status.
func answer(in *bufio.Reader) (int, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 13 {
		return 0, fmt.Errorf("status line %q", line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, fmt.Errorf("status line %q", line)
	}
	length := 0
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			break
		}
		name, value, _ := strings.Cut(string(line), ":")
		if strings.EqualFold(name, "Content-Length") {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return 0, err
			}
		}
	}
	if _, err := io.CopyN(io.Discard, in, int64(length)); err != nil {
		return 0, err
	}
	return status, nil
}

// Caller posts single webhooks over one connection. It belongs to one goroutine.
type Caller struct{ lane lane }

// NewCaller returns a caller that dials when it has to.
func NewCaller(address func() string) *Caller {
	return &Caller{lane{o: &Options{Address: address, Now: time.Now}, signer: newSigner()}}
}

// Post signs and posts body and returns the status. After an error the next Post dials anew. A forged body gets
// a wrong signature.
func (c *Caller) Post(body []byte, forged bool) (int, error) {
	now := time.Now()
	c.lane.buf = c.lane.signer.appendRequest(c.lane.buf[:0], body, now, forged)
	c.lane.out.Ack = c.lane.out.Ack[:0]
	return c.lane.exchange(c.lane.buf, now, time.Time{})
}

// Close closes the connection.
func (c *Caller) Close() { c.lane.hangUp() }
