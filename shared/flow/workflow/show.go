package workflow

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
	"sorrel/shared/workflow"
)

// Filter chooses runs: those that agree with all that is not empty. Without Record these are runs that have not ended.
type Filter struct {
	State      workflow.State
	Definition string
	Asks       string    // a role that is to decide
	Entity     string    // of the subject
	Record     record.ID // the subject; then runs that have ended are listed, too
	After      string    // Listing.Next of the page before
	Limit      int       // at most maxListed; 0 = usual
}

const (
	usual     = 100
	maxListed = 1000
)

// Head is a run as it is listed.
type Head struct {
	ledger.RunHead
	Late bool `json:"late,omitempty"` // it takes, or took, longer than its definition promises
}

// Listing is a page of runs, the oldest first.
type Listing struct {
	Runs []Head `json:"runs"`
	Next string `json:"next,omitempty"` // asks for the page after
}

// List lists runs.
func (f *Flow) List(ctx context.Context, by Filter) (Listing, error) {
	after, err := by.check()
	if err == nil && by.Entity != "" && f.d.Config.Contract(by.Entity) == nil {
		err = &fault.Error{Class: fault.Malformed, Op: "workflow.list", Detail: fmt.Sprintf("unknown entity %.40q", by.Entity), Remedy: fmt.Sprintf("one of %v", f.d.Config.Entities())}
	}
	if err != nil {
		return Listing{}, err
	}
	all, err := f.heads(ctx, by)
	if err != nil {
		return Listing{}, err
	}
	out := Listing{Runs: []Head{}}
	slices.SortFunc(all, func(a, b ledger.RunHead) int { return cmp.Compare(place(a), place(b)) })
	for _, h := range all {
		switch {
		case place(h) <= after || !by.chooses(h):
		case len(out.Runs) == cmp.Or(by.Limit, usual):
			out.Next = base64.RawURLEncoding.EncodeToString([]byte(place(out.Runs[len(out.Runs)-1].RunHead)))
			return out, nil
		default:
			out.Runs = append(out.Runs, Head{h, h.Late(f.d.Book, f.d.Now())})
		}
	}
	return out, nil
}

// place is where a run stands in a listing.
func place(h ledger.RunHead) string {
	return fmt.Sprintf("%020d/%s", h.Began.UnixNano(), h.ID)
}

// check refuses what cannot be asked, and gives the place after which the page begins.
func (by Filter) check() (after string, err error) {
	bad := func(detail, remedy string) error {
		return &fault.Error{Class: fault.Malformed, Op: "workflow.list", Detail: detail, Remedy: remedy}
	}
	states := []workflow.State{workflow.Running, workflow.Undoing, workflow.Stuck, workflow.Done, workflow.Undone}
	b, decode := base64.RawURLEncoding.DecodeString(by.After)
	switch {
	case by.State != "" && !slices.Contains(states, by.State):
		return "", bad(fmt.Sprintf("no state is called %.40q", by.State), fmt.Sprintf("one of %v", states))
	case by.State.Ended() && by.Record == "":
		return "", bad("runs that have ended are not listed", "ask for those of a record, which are: record=ENTITY/KEY")
	case by.Record != "" && by.Record.Validate() != nil:
		return "", bad(fmt.Sprintf("%.80q is no record id", by.Record), "want entity/key, such as opportunity/k3jq7m2xw5t6zr2a")
	case decode != nil:
		return "", bad("after is not of a listing", "send what next said in the page before")
	case by.Limit < 0 || by.Limit > maxListed:
		return "", bad("limit is out of bounds", fmt.Sprintf("a number from 1 to %d", maxListed))
	}
	return string(b), nil
}

func (by Filter) chooses(h ledger.RunHead) bool {
	return (by.State == "" || by.State == h.State) &&
		(by.Definition == "" || by.Definition == h.Definition()) &&
		(by.Entity == "" || by.Entity == h.Subject.Entity()) &&
		(by.Asks == "" || slices.Contains(h.Asks, by.Asks))
}

func (f *Flow) heads(ctx context.Context, by Filter) (out []ledger.RunHead, err error) {
	if by.Record == "" {
		for h, err := range f.d.Ledger.OpenRuns(ctx) {
			if err != nil {
				return nil, err
			}
			out = append(out, h)
		}
		return out, nil
	}
	for _, name := range f.d.Book.Names() {
		for r, err := range f.d.Ledger.RunsAbout(ctx, name, by.Record) {
			if err != nil {
				return nil, err
			}
			out = append(out, ledger.HeadOf(r.Run))
		}
	}
	return out, nil
}

// Shown is a run in full.
type Shown struct {
	ID string `json:"id"`
	workflow.Run
	Late     bool                   `json:"late,omitempty"`
	Promised time.Time              `json:"promised,omitzero"`  // by when it should have ended
	Question string                 `json:"question,omitempty"` // which question is asked: an answer may say that it saw this one
	Deciders []string               `json:"deciders,omitempty"` // who may answer it
	Due      map[record.ID][]string `json:"due,omitempty"`      // platforms that are still to be told something, by record
	History  []Happened             `json:"history"`            // transitions and decisions, as the audit log has them
	Orphan   string                 `json:"orphaned,omitempty"` // why nobody moves it on
}

// Happened is one line of a run's history.
type Happened struct {
	At     time.Time `json:"at"`
	What   string    `json:"what"`
	By     string    `json:"by"`
	Detail string    `json:"detail,omitempty"`
}

// Show shows a run.
func (f *Flow) Show(ctx context.Context, id string) (Shown, error) {
	r, err := f.d.Ledger.Run(ctx, id)
	if err != nil {
		return Shown{}, err
	}
	out := Shown{ID: r.ID(), Run: r.Run, Late: ledger.HeadOf(r.Run).Late(f.d.Book, f.d.Now()), History: []Happened{}}
	if most := f.d.Book.Late(r.Definition, r.Version); most > 0 {
		out.Promised = r.Began.Add(most)
	}
	if r.Ask != nil {
		out.Question = r.Ask.Version()
		for _, p := range f.d.Config.People() {
			if slices.ContainsFunc(p.Roles, func(role string) bool { return slices.Contains(r.Ask.Roles, role) }) {
				out.Deciders = append(out.Deciders, p.Name)
			}
		}
	}
	if !r.State.Ended() {
		if err := f.waiting(ctx, &out); err != nil {
			return Shown{}, err
		}
	}
	log, err := f.d.Ledger.Log(ctx, string(r.Subject))
	if err != nil {
		return Shown{}, err
	}
	for _, l := range log {
		for _, e := range l.Events {
			if detail, of := strings.CutPrefix(e.Detail, id); of && (detail == "" || strings.HasPrefix(detail, ", ") || strings.HasPrefix(detail, ": ")) {
				out.History = append(out.History, Happened{l.At, e.Action, cmp.Or(e.By, l.By), strings.TrimLeft(detail, ",: ")})
			}
		}
	}
	return out, nil
}

// waiting adds what platforms are still to be told about the records that the run looks at.
func (f *Flow) waiting(ctx context.Context, out *Shown) error {
	d, err := f.d.Book.Of(out.Run)
	if fault.Is(err, fault.NotFound) {
		out.Orphan = err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	subject, err := f.d.Ledger.Follow(ctx, out.Subject)
	if err != nil {
		return err
	}
	about, err := f.facts(ctx, d, out.Run, subject)
	if err != nil {
		return err
	}
	for id, platforms := range about.Due {
		if len(platforms) == 0 {
			continue
		}
		if out.Due == nil {
			out.Due = map[record.ID][]string{}
		}
		out.Due[id] = platforms
	}
	return nil
}
