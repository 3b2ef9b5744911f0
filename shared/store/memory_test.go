package store_test

import (
	"testing"
	"time"

	"sorrel/shared/store"
	"sorrel/shared/store/storetest"
)

func TestMemoryConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{New: func(_ *testing.T, now func() time.Time) store.Store {
		return store.NewMemory(now)
	}})
}

// A store without GetMany of its own is read key by key.
func TestGetManyWithoutGetter(t *testing.T) {
	t.Parallel()
	type plain struct{ store.Store }
	storetest.Run(t, storetest.Harness{Slow: true, New: func(_ *testing.T, now func() time.Time) store.Store {
		return plain{store.NewMemory(now)}
	}})
}
