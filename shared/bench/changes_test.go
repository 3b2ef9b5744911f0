package bench

import (
	"bytes"
	"testing"
)

func TestChanges(t *testing.T) {
	t.Parallel()
	r, err := Changes(t.Context(), ChangesOptions{Dir: t.TempDir(), Progress: t.Output()})
	var b bytes.Buffer
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + b.String())
	if err != nil {
		t.Fatal(err)
	}
}
