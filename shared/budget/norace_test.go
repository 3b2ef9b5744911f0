//go:build !race

package budget_test

// checks is how many histories TestNeverOver tries.
const checks = "100"
