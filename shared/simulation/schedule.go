package simulation

import (
	"container/heap"
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
	back   chan struct{} // a task hands the turn back
	tasks  map[*task]bool
}

type event struct {
	at  time.Time
	seq int // of two at one time, the one that was planned first
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	if !e[i].at.Equal(e[j].at) {
		return e[i].at.Before(e[j].at)
	}
	return e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return last
}

// at plans something.
func (s *schedule) at(t time.Time, do func()) {
	s.seq++
	heap.Push(&s.events, event{t, s.seq, do})
}

func (s *schedule) later(d time.Duration, do func()) { s.at(s.now.Add(d), do) }

// pass lets time pass, and everything happen that is planned meanwhile.
func (s *schedule) pass(d time.Duration) {
	over := false
	s.later(d, func() { over = true })
	for !over {
		e := heap.Pop(&s.events).(event)
		if e.at.After(s.now) {
			s.now = e.at
		}
		e.do()
	}
}

// task is one invocation of a function. It ends early when its process crashes: the goroutine that finds out exits, and
// so does every other of the invocation at its next call.
type task struct {
	resume chan struct{}
	dead   bool
}

// start runs a task until it waits for the first time. ended is called when it is over, in whichever way.
func (s *schedule) start(t *task, run func(), ended func(failure any)) {
	s.tasks[t] = true
	go func() {
		defer func() {
			failure := recover()
			delete(s.tasks, t)
			ended(failure)
			s.back <- struct{}{}
		}()
		run()
	}()
	<-s.back
}

// wait lets time pass for a task.
func (s *schedule) wait(t *task, d time.Duration) {
	at := s.now.Add(d)
	if len(s.events) == 0 || at.Before(s.events[0].at) {
		s.now = at // nothing happens before: the turn need not be handed over
		return
	}
	s.at(at, func() { s.turn(t) })
	s.back <- struct{}{}
	<-t.resume
	if t.dead {
		runtime.Goexit()
	}
}

func (s *schedule) turn(t *task) {
	if !s.tasks[t] {
		return
	}
	t.resume <- struct{}{}
	<-s.back
}

// abandon ends all tasks, wherever they are.
func (s *schedule) abandon() {
	for t := range s.tasks {
		t.dead = true
		for s.tasks[t] {
			s.turn(t)
		}
	}
}
