package vendorhttp

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/budget"
)

// Count reads a number of calls or seconds that a vendor tells. What is no number from 0 to budget.Unlimited tells nothing.
func Count(s string) (n int, ok bool) {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil || n < 0 || n > budget.Unlimited {
		return 0, false
	}
	return n, true
}

// Least is the least Count in all headers of these names.
func Least(h http.Header, names ...string) (least int, ok bool) {
	for _, name := range names {
		for _, v := range h.Values(name) {
			if n, said := Count(v); said && (!ok || n < least) {
				least, ok = n, true
			}
		}
	}
	return least, ok
}

// In is the moment after so many whole seconds that a vendor tells, which may have been rounded down. One further away
// than most is not believed: then it is not said.
func In(now time.Time, seconds int, most time.Duration) time.Time {
	if seconds < 0 || seconds > int(most/time.Second) {
		return time.Time{}
	}
	return now.Add(time.Duration(seconds+1) * time.Second)
}
