package boot

import (
	"context"

	"sorrel/shared/cloud"
	"sorrel/shared/deadline"
	"sorrel/shared/flow/link"
	"sorrel/shared/policy"
)

// Linking wires what matching a deployed stack's platforms takes: its table, and connectors from its secret, with the
// caller's own rights.
func Linking(ctx context.Context, account *cloud.Account, table, secret string, urls map[string]string, set *policy.Set) (*World, error) {
	w, err := Reading(account, table, set)
	if err != nil {
		return nil, err
	}
	w.Connectors, err = connectSecret(ctx, account.Secrets(secret, cloud.Calls{Now: w.Now}), urls, set, w)
	return w, err
}

// Link makes the matching of what exists. scratch and progress may be nil; see link.Deps.
func (w *World) Link(scratch link.Scratch, progress func(link.Progress)) *link.Flow {
	d := link.Deps{Ledger: w.Ledger, Config: w.Config, Sources: map[string]link.Source{}, Scratch: scratch, Progress: progress,
		Now: w.Now, NewID: w.newID,
		Wait: deadline.Pause}
	for name, c := range w.Connectors {
		d.Sources[name] = c
	}
	return link.New(d)
}
