//go:build race

package simulation_test

// share is how many seeds a test run plays: under the race detector each takes ten times as long.
const share = 15
