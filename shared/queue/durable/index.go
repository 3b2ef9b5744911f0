package durable

import (
	"cmp"
	"container/heap"
	"slices"
)

// index is what the queue knows in memory about each waiting message, and the rules of delivery. It does no I/O and
// is guarded by Queue.mu.
//
// A group is in exactly one state: locked (inFlight > 0), being buried, on dead, or on ready.
type index struct {
	deadAt      uint32 // receives after which a message is dead; 0 = never
	groups      map[string]*group
	ready       readyGroups
	dead        []*group // free groups whose head has been received too often
	flying      flight
	bySeq       map[uint64]*message // in flight only
	first, last *message            // all, in order of sending
	count       int
	liveBytes   int64
}

type message struct {
	seq       uint64
	at        place
	sentAt    int64
	deadline  int64 // while in flight
	receives  uint32
	flightPos int32 // position in flight, -1 when not in flight
	delayed   bool  // in flight because of a delayed release
	group     *group
	behind    *message // next of the group
	prev      *message
	next      *message
}

type group struct {
	name       string
	head, tail *message
	inFlight   int
}

func newIndex(deadAt uint32) index {
	return index{deadAt: deadAt, groups: map[string]*group{}, bySeq: map[uint64]*message{}}
}

// add takes in m, whose seq is the highest so far.
func (x *index) add(m *message, name string) {
	x.load(m, name)
	if g := m.group; g.head == m {
		x.settle(g)
	}
}

// load is add for many messages: settleAll must follow.
func (x *index) load(m *message, name string) {
	g := x.groups[name]
	if g == nil {
		g = &group{name: name, head: m}
		x.groups[name] = g
	} else {
		g.tail.behind = m
	}
	g.tail = m
	m.group, m.flightPos = g, -1
	m.prev = x.last
	if x.last == nil {
		x.first = m
	} else {
		x.last.next = m
	}
	x.last = m
	x.count++
	x.liveBytes += int64(m.at.size)
	m.at.seg.live++
}

func (x *index) settleAll() {
	for _, g := range x.groups {
		if g.inFlight == 0 {
			x.settle(g)
		}
	}
}

// settle puts a free group where it belongs.
func (x *index) settle(g *group) {
	switch {
	case g.head == nil:
		delete(x.groups, g.name)
	case x.isDead(g.head):
		x.dead = append(x.dead, g)
	default:
		heap.Push(&x.ready, g)
	}
}

func (x *index) isDead(m *message) bool { return x.deadAt > 0 && m.receives >= x.deadAt }

// deadOf returns the dead messages of free groups in order of sending. They are the oldest of each group, as a later
// message is never received more often.
func (x *index) deadOf(groups []*group) []*message {
	var dead []*message
	for _, g := range groups {
		for m := g.head; m != nil && x.isDead(m); m = m.behind {
			dead = append(dead, m)
		}
	}
	slices.SortFunc(dead, func(a, b *message) int { return cmp.Compare(a.seq, b.seq) })
	return dead
}

// pick takes up to max messages of ready groups: all that wait in the group with the oldest head, then in the next
// group, and so on. Their groups leave ready; the caller calls launch for each message, or putBack.
func (x *index) pick(max int) []*message {
	var picked []*message
	for len(picked) < max && len(x.ready) > 0 {
		for m := heap.Pop(&x.ready).(*group).head; m != nil && len(picked) < max; m = m.behind {
			picked = append(picked, m)
		}
	}
	slices.SortFunc(picked, func(a, b *message) int { return cmp.Compare(a.seq, b.seq) })
	return picked
}

func (x *index) putBack(picked []*message) {
	for _, m := range picked {
		if m.group.head == m {
			heap.Push(&x.ready, m.group)
		}
	}
}

// launch puts m in flight until deadline.
func (x *index) launch(m *message, deadline int64) {
	m.deadline = deadline
	m.group.inFlight++
	x.bySeq[m.seq] = m
	heap.Push(&x.flying, m)
}

// postpone changes the deadline of a message in flight.
func (x *index) postpone(m *message, deadline int64) {
	m.deadline = deadline
	heap.Fix(&x.flying, int(m.flightPos))
}

// expire ends the deliveries whose deadline is not after now and reports whether there were any.
func (x *index) expire(now int64) bool {
	any := false
	for len(x.flying) > 0 && x.flying[0].deadline <= now {
		x.land(x.flying[0])
		any = true
	}
	return any
}

func (x *index) land(m *message) {
	heap.Remove(&x.flying, int(m.flightPos))
	delete(x.bySeq, m.seq)
	m.delayed = false
	m.group.inFlight--
	if m.group.inFlight == 0 {
		x.settle(m.group)
	}
}

// remove forgets a message that is in flight or whose group is being buried.
func (x *index) remove(m *message) {
	g := m.group
	var before *message
	for c := g.head; c != m; c = c.behind {
		before = c
	}
	if before == nil {
		g.head = m.behind
	} else {
		before.behind = m.behind
	}
	if g.tail == m {
		g.tail = before
	}
	if m.prev == nil {
		x.first = m.next
	} else {
		m.prev.next = m.next
	}
	if m.next == nil {
		x.last = m.prev
	} else {
		m.next.prev = m.prev
	}
	x.count--
	x.liveBytes -= int64(m.at.size)
	m.at.seg.live--
	if m.flightPos >= 0 {
		x.land(m)
	}
	m.at.seg, m.group = nil, nil
}

// relocate notes that m's frame now stands at to.
func (x *index) relocate(m *message, to place) {
	m.at.seg.live--
	x.liveBytes += int64(to.size) - int64(m.at.size)
	m.at = to
	to.seg.live++
}

// readyGroups is a heap of groups, oldest head first.
type readyGroups []*group

func (h readyGroups) Len() int           { return len(h) }
func (h readyGroups) Less(i, j int) bool { return h[i].head.seq < h[j].head.seq }
func (h readyGroups) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *readyGroups) Push(v any)        { *h = append(*h, v.(*group)) }
func (h *readyGroups) Pop() any {
	old := *h
	v := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return v
}

// flight is a heap of messages in flight, earliest deadline first.
type flight []*message

func (h flight) Len() int           { return len(h) }
func (h flight) Less(i, j int) bool { return h[i].deadline < h[j].deadline }
func (h flight) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].flightPos, h[j].flightPos = int32(i), int32(j)
}
func (h *flight) Push(v any) {
	m := v.(*message)
	m.flightPos = int32(len(*h))
	*h = append(*h, m)
}
func (h *flight) Pop() any {
	old := *h
	m := old[len(old)-1]
	m.flightPos = -1
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return m
}
