// Package floor holds the least that a webhook receiver can do, hand-written for the benchmark's one kind of
// event. They are bounds to compare with, not products: V verifies and answers; I also decodes, maps 14 fields, drops
// repeats and answers after the event is flushed to a log; W also delivers each event in the order of its
// record by HTTP POST. Their logs are never read again.
package floor

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"sorrel/shared/bench/load"
)

// Config of one floor.
type Config struct {
	Kind   string // V, I or W
	Dir    string // of the log
	Target string // W: base URL
}

// lanes are how many deliveries of W are under way at once; an order always takes the same lane.
const lanes = 64

// Start starts a floor and returns its URL and how to stop it.
func Start(c Config) (string, func() error, error) {
	f := &floor{seen: map[string]struct{}{}}
	var stops []func() error
	if c.Kind != "V" {
		l, err := openLog(filepath.Join(c.Dir, "floor.log"))
		if err != nil {
			return "", nil, err
		}
		f.log, stops = l, append(stops, l.close)
	}
	if c.Kind == "W" {
		stops = append(stops, f.deliver(c.Target+"/deliver"))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("bench floor: %w", err)
	}
	server := &http.Server{Handler: f, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }() // ends with Close
	return "http://" + listener.Addr().String(), func() error {
		errs := []error{server.Close()}
		for i := len(stops) - 1; i >= 0; i-- {
			errs = append(errs, stops[i]())
		}
		return errors.Join(errs...)
	}, nil
}

type floor struct {
	log  *log
	mu   sync.Mutex
	seen map[string]struct{}
	lane []chan []byte
}

// event is what the floors decode of a sales order.
type event struct {
	ID     string `json:"id"`
	Record struct {
		ID           string `json:"id"`
		LastModified string `json:"lastModifiedDate"`
		Rev          int64  `json:"rev"`
		Fields       struct {
			TranID   string      `json:"tranId"`
			TranDate string      `json:"tranDate"`
			Entity   ref         `json:"entity"`
			Number   string      `json:"otherRefNum"`
			Status   ref         `json:"orderStatus"`
			Currency ref         `json:"currency"`
			Subtotal json.Number `json:"subtotal"`
			Tax      json.Number `json:"taxTotal"`
			Shipping json.Number `json:"shippingCost"`
			Total    json.Number `json:"total"`
			Memo     string      `json:"memo"`
			ShipDate string      `json:"shipDate"`
			Method   ref         `json:"shipMethod"`
			Address  struct {
				Street string `json:"addr1"`
				City   string `json:"city"`
				Zip    string `json:"zip"`
			} `json:"shippingAddress"`
		} `json:"fields"`
	} `json:"record"`
}

type ref struct {
	ID   string `json:"id"`
	Name string `json:"refName"`
}

// mapped is what the floors deliver: 14 fields.
type mapped struct {
	Order       string      `json:"order"`
	Number      string      `json:"number"`
	Customer    string      `json:"customer"`
	Status      string      `json:"status"`
	PlacedOn    string      `json:"placedOn"`
	Currency    string      `json:"currency"`
	Subtotal    json.Number `json:"subtotal"`
	Tax         json.Number `json:"tax"`
	Freight     json.Number `json:"freight"`
	Total       json.Number `json:"total"`
	PONumber    string      `json:"poNumber"`
	Description string      `json:"description"`
	Street      string      `json:"street"`
	City        string      `json:"city"`
}

func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 512<<10))
	if err != nil || !verified(r.Header, body) {
		http.Error(w, "refused", http.StatusUnauthorized)
		return
	}
	if f.log != nil {
		if err := f.take(body); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"accepted":true}`) // the caller hung up
}

func verified(h http.Header, body []byte) bool {
	stamp := h.Get(load.TimestampHeader)
	at, err := time.Parse(time.RFC3339, stamp)
	if err != nil || time.Since(at).Abs() > 5*time.Minute {
		return false
	}
	given := h.Get(load.SignatureHeader)
	if len(given) < 3 {
		return false
	}
	sum, err := hex.DecodeString(given[3:])
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, []byte(load.Secret))
	mac.Write([]byte(stamp))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return hmac.Equal(mac.Sum(nil), sum)
}

// take keeps one event and hands it on. An order's events come one after the other, so lanes keep their order.
func (f *floor) take(body []byte) error {
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		return err
	}
	in := &e.Record.Fields
	out, err := json.Marshal(mapped{e.Record.ID, in.TranID, in.Entity.ID, in.Status.ID, in.TranDate, in.Currency.Name, in.Subtotal, in.Tax,
		in.Shipping, in.Total, in.Number, in.Memo, in.Address.Street, in.Address.City})
	if err != nil {
		return err
	}
	f.mu.Lock()
	_, repeat := f.seen[e.ID]
	f.seen[e.ID] = struct{}{}
	f.mu.Unlock()
	if repeat {
		return nil
	}
	if err := f.log.append(out); err != nil {
		return err
	}
	if f.lane != nil {
		n, _ := strconv.Atoi(e.Record.ID) // an id that is no number shares lane 0
		f.lane[n%lanes] <- out
	}
	return nil
}

// deliver starts the lanes.
func (f *floor) deliver(url string) (stop func() error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConns: lanes, MaxIdleConnsPerHost: lanes}, Timeout: 15 * time.Second}
	var wg sync.WaitGroup
	errs := make([]error, lanes)
	f.lane = make([]chan []byte, lanes)
	for i := range f.lane {
		f.lane[i] = make(chan []byte, 4096)
		wg.Go(func() {
			for body := range f.lane[i] {
				if err := post(client, url, body); err != nil {
					errs[i] = err
				}
			}
		})
	}
	return func() error {
		for _, l := range f.lane {
			close(l)
		}
		wg.Wait()
		return errors.Join(errs...)
	}
}

func post(client *http.Client, url string, body []byte) error {
	resp, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("bench floor: the target answered %s", resp.Status)
	}
	return nil
}

// log appends records to a file; all that come together share one write and one flush.
type log struct {
	file *os.File
	poke chan struct{}
	done chan struct{}

	mu    sync.Mutex
	group *group
}

type group struct {
	buf     []byte
	flushed chan struct{}
	err     error
}

func newGroup() *group { return &group{flushed: make(chan struct{})} }

func openLog(path string) (*log, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("bench floor: %w", err)
	}
	l := &log{file: file, poke: make(chan struct{}, 1), done: make(chan struct{}), group: newGroup()}
	go l.write()
	return l, nil
}

func (l *log) append(b []byte) error {
	l.mu.Lock()
	g := l.group
	g.buf = append(append(g.buf, b...), '\n')
	l.mu.Unlock()
	select {
	case l.poke <- struct{}{}:
	default:
	}
	<-g.flushed
	return g.err
}

func (l *log) write() {
	defer close(l.done)
	for range l.poke {
		runtime.Gosched() // whoever is ready to append shares this flush
		l.mu.Lock()
		g := l.group
		l.group = newGroup()
		l.mu.Unlock()
		if len(g.buf) > 0 {
			_, err := l.file.Write(g.buf)
			if err == nil {
				err = Sync(l.file)
			}
			g.err = err
		}
		close(g.flushed)
	}
}

func (l *log) close() error {
	close(l.poke)
	<-l.done
	return l.file.Close()
}
