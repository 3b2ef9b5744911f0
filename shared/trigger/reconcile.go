package trigger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"sorrel/shared/drift"
	"sorrel/shared/fault"
	"sorrel/shared/flow/reconcile"
	"sorrel/shared/policy"
)

// Reconciliation is what one invocation of the reconcile function did.
type Reconciliation struct {
	Run string `json:"run,omitempty"` // that the schedule asks for
	reconcile.Advanced
}

// Reconcile handles the schedules of reconciliation. One that names a platform begins a run over it, unless one is under way;
// an empty object moves on what is under way. Both use the time that is left.
func Reconcile(f *reconcile.Flow, done func()) func(context.Context, json.RawMessage) (Reconciliation, error) {
	return func(ctx context.Context, raw json.RawMessage) (out Reconciliation, err error) {
		defer done()
		var in reconcile.Wish
		if err := strict(raw, &in); err != nil {
			return out, fault.Wrap(fault.Malformed, "trigger.reconcile", "", fmt.Errorf(`the schedule's input must be {} or {"platform":"…","full":false}: %w`, err))
		}
		ctx, cancel := within(ctx)
		defer cancel()
		if in != (reconcile.Wish{}) {
			r, err := f.Schedule(ctx, in)
			if err != nil {
				return out, err
			}
			out.Run = r.ID
		}
		out.Advanced, err = f.Advance(ctx)
		return out, err
	}
}

// reconciliations are the routes about comparing platforms with the hub.
func (d Desk) reconciliations(mux *http.ServeMux) {
	if d.Compare == nil {
		return
	}
	d.get(mux, "reconciliations", func(r *http.Request) (any, error) { return d.Compare.List(r.Context()) })
	d.get(mux, "reconciliations/{id}", func(r *http.Request) (any, error) { return d.Compare.Show(r.Context(), r.PathValue("id")) })
	d.file(mux, "reconciliations/{id}/certificate", "text/plain; charset=utf-8", func(r *http.Request) ([]byte, error) {
		return d.Compare.Certificate(r.Context(), r.PathValue("id"))
	})
	d.file(mux, "reconciliations/{id}/page", "text/html; charset=utf-8", func(r *http.Request) ([]byte, error) {
		report, err := d.Compare.Show(r.Context(), r.PathValue("id"))
		if err != nil {
			return nil, err
		}
		var page bytes.Buffer
		err = drift.Page(&page, report)
		return page.Bytes(), err
	})
	d.get(mux, "reconciliations/keys", func(r *http.Request) (any, error) {
		keys, err := d.Compare.Keys(r.Context())
		return map[string]any{"keys": keys}, err
	})
	// Asked for twice, a run finds nothing the second time.
	d.change(mux, change{route: "POST reconciliations", do: func(r *http.Request, by policy.Person) (any, error) {
		var in reconcile.Wish
		if err := body(r, &in, `{"platform": "…", "entity": "…", "full": false, "dryRun": false, "gone": false}, of which any may be left out`); err != nil {
			return nil, err
		}
		return d.Compare.Begin(r.Context(), by, in)
	}})
}

// file answers with bytes as they are. A browser takes them for what they are said to be, and lets no page have them.
func (d Desk) file(mux *http.ServeMux, path, kind string, f func(*http.Request) ([]byte, error)) {
	pattern := "GET /v1/" + path
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		out, err := f(r)
		if err != nil {
			d.reply(w, r, pattern, nil, err)
			return
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(out) // the client is gone
	})
}
