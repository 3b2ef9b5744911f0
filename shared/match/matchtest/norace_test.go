//go:build !race

package matchtest_test

const raceEnabled = false
