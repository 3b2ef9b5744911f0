package trigger

import (
	"net/http"
	"strconv"

	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/policy"
)

// replays are the routes about doing again what was done.
func (d Desk) replays(mux *http.ServeMux) {
	d.get(mux, "replays", func(r *http.Request) (any, error) { return d.Again.List(r.Context()) })
	d.get(mux, "replays/{id}", func(r *http.Request) (any, error) { return d.Again.Show(r.Context(), r.PathValue("id")) })
	d.get(mux, "replays/{id}/records", func(r *http.Request) (any, error) {
		page := 0
		if said := r.URL.Query().Get("page"); said != "" {
			var err error
			if page, err = strconv.Atoi(said); err != nil || page < 0 {
				return nil, &fault.Error{Class: fault.Malformed, Op: "desk", Detail: "page is no number", Remedy: "pages are counted from 0"}
			}
		}
		return d.Again.Records(r.Context(), r.PathValue("id"), page)
	}, "page")
	// Asked for twice, each of these is the same; a second plan of one selection writes nothing but itself.
	d.change(mux, change{route: "POST replays", do: func(r *http.Request, by policy.Person) (any, error) {
		var s ledger.Selection
		const want = `{"since": "2026-11-02T08:00:00Z", "until": "…", "entity": "…", "platform": "…", "record": "…", "correlationId": "…", "reread": false}, of which any may be left out`
		if err := body(r, &s, want); err != nil {
			return nil, err
		}
		return d.Again.Plan(r.Context(), by, s)
	}})
	d.change(mux, change{route: "POST replays/{id}/run", do: func(r *http.Request, by policy.Person) (any, error) {
		return d.Again.Run(r.Context(), by, r.PathValue("id"))
	}})
	d.change(mux, change{route: "POST replays/{id}/pause", do: func(r *http.Request, by policy.Person) (any, error) {
		return d.Again.Pause(r.Context(), by, r.PathValue("id"))
	}})
	d.change(mux, change{route: "POST replays/{id}/resume", do: func(r *http.Request, by policy.Person) (any, error) {
		var in struct {
			Current bool `json:"current"`
		}
		if err := body(r, &in, `{"current": false}`); err != nil {
			return nil, err
		}
		return d.Again.Resume(r.Context(), by, r.PathValue("id"), in.Current)
	}})
	d.change(mux, change{route: "POST replays/{id}/cancel", do: func(r *http.Request, by policy.Person) (any, error) {
		return d.Again.Cancel(r.Context(), by, r.PathValue("id"))
	}})
}
