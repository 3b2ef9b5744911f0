package simulation

import (
	"iter"
	"runtime"
	"time"
)

// schedule is virtual time. Whatever happens is an event at a time; between two events of a task others may come. Only
// one goroutine at a time has the turn: the driver's, or that of the one task that it has handed the turn to. So everything
// here, and everything that tasks call, needs no lock and happens in one order.
type schedule struct {
	now    time.Time
	events events
	seq    int
	tasks  []*task // that were ever started
}

type event struct {
	at  time.Time
	seq int // of two at one time, the one that was planned first
	do  func()
}

func (e event) before(o event) bool {
	if e.at.Equal(o.at) {
		return e.seq < o.seq
	}
	return e.at.Before(o.at)
}

// events are a heap: the next stands first. container/heap would box each of them.
type events []event

func (q *events) push(e event) {
	h := append(*q, e)
	for i := len(h) - 1; i > 0 && h[i].before(h[(i-1)/2]); i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
	*q = h
}

func (q *events) pop() event {
	h := *q
	next, last := h[0], len(h)-1
	h[0], h[last] = h[last], event{}
	h = h[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child+1 < last && h[child+1].before(h[child]) {
			child++
		}
		if child >= last || h[i].before(h[child]) {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	*q = h
	return next
}

// at plans something.
func (s *schedule) at(t time.Time, do func()) {
	s.seq++
	s.events.push(event{t, s.seq, do})
}

func (s *schedule) later(d time.Duration, do func()) { s.at(s.now.Add(d), do) }

// pass lets time pass, and everything happen that is planned meanwhile.
func (s *schedule) pass(d time.Duration) {
	over := false
	s.later(d, func() { over = true })
	for !over {
		e := s.events.pop()
		if e.at.After(s.now) {
			s.now = e.at
		}
		e.do()
	}
}

// task is what a process does: one invocation of a function after the other. One ends early when its process crashes: the
// goroutine that finds out exits, and so does every other of the invocation at its next call. The turn goes back and forth
// as that of a coroutine does, which costs less than channels do; whichever goroutine of the invocation has it may give
// it back.
type task struct {
	next  func() (struct{}, bool)
	yield func(struct{}) bool
	run   func()
	ended func(failure any)
	busy  bool
	over  bool // its goroutine has ended
	dead  bool
}

// start runs a task until it waits for the first time. ended is called when it is over, in whichever way.
func (s *schedule) start(t *task, run func(), ended func(failure any)) {
	t.run, t.ended, t.busy = run, ended, true
	if t.next == nil {
		s.tasks = append(s.tasks, t)
		t.next, _ = iter.Pull(func(yield func(struct{}) bool) {
			t.yield = yield
			over := make(chan struct{})
			go func() { // a coroutine must not exit as those that crash do
				defer close(over)
				t.work()
			}()
			<-over
		})
	}
	t.next()
}

// work does what there is to do, for as long as the process lives.
func (t *task) work() {
	defer func() {
		failure := recover()
		if t.over = true; t.busy {
			t.busy = false
			t.ended(failure)
		}
	}()
	for !t.dead {
		t.run()
		t.busy = false
		t.ended(nil)
		t.yield(struct{}{})
	}
}

// wait lets time pass for a task.
func (s *schedule) wait(t *task, d time.Duration) {
	at := s.now.Add(d)
	if len(s.events) == 0 || at.Before(s.events[0].at) {
		s.now = at // nothing happens before: the turn need not be handed over
		return
	}
	s.at(at, func() { t.next() })
	t.yield(struct{}{})
	if t.dead {
		runtime.Goexit()
	}
}

// abandon ends all tasks, wherever they are.
func (s *schedule) abandon() {
	for _, t := range s.tasks {
		t.dead = true
		for !t.over {
			t.next()
		}
	}
}
