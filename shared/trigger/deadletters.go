package trigger

import (
	"net/http"

	"sorrel/shared/fault"
	"sorrel/shared/flow/deadletters"
	"sorrel/shared/policy"
)

// deadLetters are the routes about messages that were given up.
func (d Desk) deadLetters(mux *http.ServeMux) {
	d.get(mux, "deadletters", func(r *http.Request) (any, error) {
		if err := d.reached(); err != nil {
			return nil, err
		}
		return d.Dead.List(r.Context(), deadletters.Filter{Queue: r.URL.Query().Get("queue"), Class: r.URL.Query().Get("class")})
	}, "queue", "class")
	d.get(mux, "deadletters/{id}", d.letter, "payload")
	// Redriving again is harmless, and says what is left.
	d.change(mux, change{route: "POST deadletters", lease: leaseDead, do: func(r *http.Request, by policy.Person) (any, error) {
		var in struct {
			Do string `json:"action"`
			deadletters.Choice
		}
		const want = `{"action": "redrive", "ids": […]} or {"action": "redrive", "all": true, "queue": "…", "class": "…"}`
		if err := body(r, &in, want); err != nil {
			return nil, err
		}
		if in.Do != "redrive" {
			return nil, &fault.Error{Class: fault.Malformed, Op: "desk", Detail: "action must be redrive; letters are discarded one by one", Remedy: "send " + want}
		}
		if err := d.reached(); err != nil {
			return nil, err
		}
		return d.Dead.Redrive(r.Context(), by, in.Choice)
	}})
	d.change(mux, change{route: "POST deadletters/{id}", lease: leaseDead, look: d.discarded, do: func(r *http.Request, by policy.Person) (any, error) {
		var in struct {
			Do     string `json:"action"`
			Reason string `json:"reason"`
		}
		const want = `{"action": "redrive"} or {"action": "discard", "reason": "…"}`
		if err := body(r, &in, want); err != nil {
			return nil, err
		}
		if err := d.reached(); err != nil {
			return nil, err
		}
		switch id := r.PathValue("id"); in.Do {
		case "redrive":
			return d.Dead.Redrive(r.Context(), by, deadletters.Choice{IDs: []string{id}})
		case "discard":
			return d.Dead.Discard(r.Context(), by, id, in.Reason)
		}
		return nil, &fault.Error{Class: fault.Malformed, Op: "desk", Detail: "action must be redrive or discard", Remedy: "send " + want}
	}})
}

// discarded looks whether a letter was discarded. What was to be redriven is still there, or it was: asked again, that shows.
func (d Desk) discarded(r *http.Request, _ policy.Person, _ string) (any, bool, error) {
	if err := d.reached(); err != nil {
		return nil, false, err
	}
	return d.Dead.Discarded(r.Context(), r.PathValue("id"))
}

// letter shows one letter. Its body as it is holds personal data: only a person of the configuration on this very machine
// sees it.
func (d Desk) letter(r *http.Request) (any, error) {
	whole, err := flag(r, "payload")
	if err != nil {
		return nil, err
	}
	if whole {
		if !here(r.RemoteAddr) || !here(r.Host) {
			return nil, &fault.Error{Class: fault.Forbidden, Op: "desk", Detail: "a payload is shown on the machine of this process only",
				Remedy: "run sorrel deadletters show --payload there, or with --table and --stack for a stack on AWS"}
		}
		if _, err := d.Who(r); err != nil {
			return nil, err
		}
	}
	if err := d.reached(); err != nil {
		return nil, err
	}
	return d.Dead.Show(r.Context(), r.PathValue("id"), whole)
}

// reached refuses where the desk has a table only.
func (d Desk) reached() error {
	if d.Dead != nil {
		return nil
	}
	return &fault.Error{Class: fault.NotFound, Op: "desk", Detail: "no queues can be reached from here", Remedy: "with --table, name the stack too: --stack"}
}
