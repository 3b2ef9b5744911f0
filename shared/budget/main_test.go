package budget_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain takes the number of histories from SORREL_BUDGET_CHECKS, where it is set.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", cmp.Or(os.Getenv("SORREL_BUDGET_CHECKS"), checks)); err != nil {
		fmt.Fprintln(os.Stderr, "SORREL_BUDGET_CHECKS:", err)
		os.Exit(2)
	}
	m.Run()
}
