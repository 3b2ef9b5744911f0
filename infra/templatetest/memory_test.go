package templatetest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"sorrel/shared/boot"
	"sorrel/shared/ledger"
	"sorrel/shared/queue"
	"sorrel/shared/record"
	"sorrel/shared/store"
	"sorrel/shared/telemetry"
	"sorrel/shared/vendorhttp"
)

// TestMemory lets a vendor answer as much as vendorhttp takes, and compares what the process has from the operating system
// at most with the soft limit of the function's template, which the rule about memory keeps below MemorySize. It is not
// parallel, so that nothing else runs meanwhile.
func TestMemory(t *testing.T) {
	template := written(t, read(t, "template.yaml"))
	for _, tt := range []struct {
		name     string
		function []string
		do       func(t *testing.T, w *boot.World) error
	}{
		{"the largest page", []string{"BatchFunction"}, func(t *testing.T, w *boot.World) error {
			got, err := w.Batch().Apply(t.Context(), record.Salesforce)
			if err == nil && got.Records != rows {
				return fmt.Errorf("%d records listed, want %d", got.Records, rows)
			}
			return err
		}},
		// Both look at one record per message of a batch at once, at most.
		{"the largest answers", []string{"HubFunction", "DeliverFunction"}, func(t *testing.T, w *boot.World) error {
			var natives [queue.MaxBatch]record.Native // kept to the end, as by whoever works with them
			var g errgroup.Group
			for i := range natives {
				g.Go(func() (err error) {
					natives[i], err = w.Connectors[record.Salesforce].Read(t.Context(), record.Ref{Platform: record.Salesforce, Object: "Account", ID: account(i)})
					return err
				})
			}
			err := g.Wait()
			for i, n := range natives {
				if err == nil && n.ID != account(i) {
					return fmt.Errorf("read %s, want %s", n.ID, account(i))
				}
			}
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := abundant(t)
			peak, err := peakOf(func() error { return tt.do(t, w) })
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range tt.function {
				limit := uint64(softLimit(template, id))
				t.Logf("%s: %d of %d MiB", id, peak>>20, limit>>20)
				if peak > limit {
					t.Errorf("%s: %d MiB are needed, its GOMEMLIMIT is %d: raise MemorySize, or lower what vendorhttp takes", id, peak>>20, limit>>20)
				}
			}
		})
	}
}

// rows of the page: fewer than a full one, which would have a next one.
const rows = 1990

func account(i int) string { return fmt.Sprintf("001000000%06d", i) }

// abundant is a world with a Salesforce whose answers are as large as they may be, in pieces and of unknown length, which
// is what costs most. Nothing is kept of what is queued, as SQS keeps it elsewhere.
func abundant(t *testing.T) *boot.World {
	t.Helper()
	set, err := boot.LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	fields := slices.DeleteFunc(set.NativeFields(record.Salesforce, "Account"), func(f string) bool { return strings.Contains(f, ".") || f == "Id" })
	row := func(w io.Writer, i, size int) {
		_, _ = fmt.Fprintf(w, `{"attributes":{"type":"Account"},"Id":%q,"SystemModstamp":"2026-11-02T08:00:00.000+0000","IsDeleted":false`, account(i))
		size -= 200 // of what is around the values
		for _, f := range fields {
			_, _ = fmt.Fprintf(w, `,%q:"%s"`, f, strings.Repeat("x", size/len(fields)-len(f)-6))
		}
		_, _ = io.WriteString(w, "}")
	}
	var srv *httptest.Server
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.FormValue("q")
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/token"):
			_, _ = fmt.Fprintf(w, `{"access_token":"of-the-test","instance_url":%q}`, srv.URL)
		case strings.Contains(q, "WHERE Id = "):
			i := 0
			if _, err := fmt.Sscanf(q[strings.Index(q, "WHERE Id = "):], "WHERE Id = '001000000%d'", &i); err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			_, _ = io.WriteString(w, `{"done":true,"records":[`)
			row(w, i, vendorhttp.MaxAnswer-1000)
			_, _ = io.WriteString(w, "]}")
		case strings.Contains(q, "FROM Account"):
			_, _ = io.WriteString(w, `{"done":true,"records":[`)
			for i := range rows {
				if i > 0 {
					_, _ = io.WriteString(w, ",")
				}
				row(w, i, vendorhttp.MaxPage/rows-10)
			}
			_, _ = io.WriteString(w, "]}")
		default:
			_, _ = io.WriteString(w, `{"done":true,"records":[]}`)
		}
	}))
	t.Cleanup(srv.Close)
	endpoints := map[string]boot.Endpoint{record.Salesforce: {URL: srv.URL, Credentials: []byte(`{"clientId":"a","clientSecret":"b","orgId":"00Dxx0000001gEREAY"}`)}}
	queues := map[string]boot.Queue{}
	for _, name := range []string{boot.InboundQueue, boot.WorkflowQueue, boot.PublishQueue, boot.OutboundQueue(record.NetSuite), boot.OutboundQueue(record.Salesforce), boot.OutboundQueue(record.Zendesk), boot.OutboundQueue(record.ServiceNow)} {
		queues[name] = queue.NewMemory(queue.Settings{Name: name}, nil, time.Now)
	}
	w, err := boot.Over(store.NewMemory(time.Now), queues, time.Now, set, endpoints, telemetry.New(nil, time.Now, nil))
	if err != nil {
		t.Fatal(err)
	}
	w.Ledger, w.Inbound = ledger.New(store.NewMemory(time.Now), time.Now), elsewhere{}
	return w
}

// elsewhere is a queue that costs this process nothing.
type elsewhere struct{}

func (elsewhere) Send(context.Context, ...queue.Message) error { return nil }

// peakOf is the most memory that the process had from the operating system while do ran, by what Go counts against
// GOMEMLIMIT. The collector runs often, so that it is what is needed.
func peakOf(do func() error) (uint64, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(25))
	debug.FreeOSMemory()
	done, peak := make(chan struct{}), make(chan uint64)
	go func() {
		samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		var most uint64
		for {
			metrics.Read(samples)
			most = max(most, samples[0].Value.Uint64()-samples[1].Value.Uint64())
			select {
			case <-done:
				peak <- most
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	err := do()
	close(done)
	return <-peak, err
}
