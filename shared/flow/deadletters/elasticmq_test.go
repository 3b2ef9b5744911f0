//go:build linux || darwin

package deadletters_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sorrel/shared/cloud"
	"sorrel/shared/cloud/localservers"
	"sorrel/shared/flow/deadletters"
	"sorrel/shared/queue"
)

// Over SQS's protocol: letters are looked at and stay, are redriven to where they came from, and go when they are discarded.
func TestOverElasticMQ(t *testing.T) {
	t.Parallel()
	account, err := cloud.Open(cloud.Settings{Endpoints: cloud.Endpoints{All: localservers.SQS(t)}})
	if err != nil {
		t.Fatal(err)
	}
	open := func(b *bed, name string) (both, both) {
		urls, err := account.CreateQueues(b.Context(), queue.Settings{Name: name + ".fifo", Visibility: 20 * time.Second, MaxReceives: 2})
		b.must(err)
		if found, err := account.QueueURL(b.Context(), name+".fifo"); err != nil || found != urls[0].Main || cloud.DeadLetterName(found) != urls[0].DeadLetter {
			b.Errorf("%s is at %+v, found at %s, %v", name, urls[0], found, err)
		}
		return account.Queue(urls[0].Main, cloud.Calls{}), account.Queue(urls[0].DeadLetter, cloud.Calls{})
	}
	b := newBed(t, open)
	if _, err := account.QueueURL(t.Context(), "none.fifo"); err == nil || !strings.Contains(err.Error(), "no such queue") {
		t.Errorf("a queue that is none: %v", err)
	}
	b.hear(b.said(100, "Vins & fils"))
	b.send(b.in, "netsuite/customer/1", `{"v":7}`)
	b.send(b.in, "netsuite/customer/107", b.said(50, secret))
	b.send(b.in, "netsuite/customer/107", b.said(200, "Vins & filles"))
	for range 12 {
		b.giveUp(b.in, b.hub.Apply) // ElasticMQ hands out a group message by message
		if d, err := b.inDead.Depth(t.Context()); err == nil && d.Visible == 3 {
			break
		}
	}
	for range 2 {
		l := b.list(deadletters.Filter{})
		if len(l.Letters) != 3 || b.waiting(b.inDead) != 3 {
			t.Fatalf("%+v", l.Queues)
		}
	}
	poison := b.letter(deadletters.Poison)
	if poison.Case == nil || poison.Case.Type != "poison-message" {
		t.Errorf("no exception tells of the poison: %+v", poison)
	}
	if did := b.redrive(deadletters.Choice{All: true}); len(did.Redriven) != 2 || !slices.Equal(did.Poison, []string{poison.ID}) || did.Left != 1 {
		t.Errorf("%+v", did)
	}
	if d, err := b.in.Depth(t.Context()); err != nil || d.Visible != 2 {
		t.Errorf("inbound has %+v, %v", d, err)
	}
	if _, err := b.flow.Discard(t.Context(), stewart, poison.ID, "a test"); err != nil || b.waiting(b.inDead) != 0 {
		t.Error(err)
	}
	if open, err := b.ledger.Exceptions(t.Context(), false); err != nil || len(open) != 0 {
		t.Errorf("%+v, %v", open, err)
	}
}
