//go:build race

package budget_test

// checks is how many histories TestNeverOver tries: under the race detector each takes eight times as long, and one
// goroutine at a time has the turn.
const checks = "15"
