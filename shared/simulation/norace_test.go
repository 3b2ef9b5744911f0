//go:build !race

package simulation_test

// share is how many seeds a test run plays.
const share = 200

const shareOfTwins = 20 // of those of PlanTwins

const shareOfWorkflows = 60 // of those of PlanWorkflows
