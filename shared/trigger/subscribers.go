package trigger

import (
	"net/http"

	"sorrel/shared/event"
	"sorrel/shared/flow/publish"
	"sorrel/shared/policy"
)

// subscribers are the routes about who is told of changes and business events.
func (d Desk) subscribers(mux *http.ServeMux) {
	d.get(mux, "subscribers", func(r *http.Request) (any, error) { return d.Tell.List(r.Context()) })
	d.get(mux, "event-schemas", func(r *http.Request) (any, error) { return event.Schemas(d.Config) })
	// Asked for twice, it makes nothing due that is due already.
	d.change(mux, change{route: "POST subscribers/{name}/replays", do: func(r *http.Request, by policy.Person) (any, error) {
		var a publish.Again
		const want = `{"since": "2026-11-02T08:00:00Z", "entity": "…", "record": "…", "run": false, "after": what an answer before says under next}, of which any may be left out`
		if err := body(r, &a, want); err != nil {
			return nil, err
		}
		return d.Tell.Replay(r.Context(), by, r.PathValue("name"), a)
	}})
}
