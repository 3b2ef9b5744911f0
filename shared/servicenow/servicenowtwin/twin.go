// Package servicenowtwin is a stand-in of one ServiceNow instance.
package servicenowtwin

import (
	"fmt"
	"net/http"
	"time"

	"sorrel/shared/servicenow"
	"sorrel/shared/twin"
)

// Limits of an instance. Zero means the default, negative means none.
type Limits struct {
	PerHour int // requests of the integration user; default none (no rule exists out of the box)
}

// NoLimits is an instance that may do everything at once.
func NoLimits() Limits { return Limits{-1} }

// Options of a twin. Now is required.
type Options struct {
	Now           func() time.Time
	Seed          uint64
	First         int64 // sys_ids hold a counter that begins after this
	Limits        Limits
	Credentials   servicenow.Credentials // that it accepts; empty ones get defaults
	TokenLife     time.Duration          // 0 = 30 min
	NoCustomSetup bool                   // start without the u_ fields and staging tables, as a new instance does
}

// Field of a table.
type Field struct {
	Name    string
	Label   string
	Type    string   // string, integer, decimal, boolean, choice, reference, glide_date_time
	Max     int      // characters of a string; 0 = 255
	Choices []string // of a choice field
	Target  string   // of a reference: the table
	Unique  bool
}

// Twin is one instance. It is safe for concurrent use.
type Twin struct {
	kit *twin.Kit
	opt Options
}

// New returns a twin with the fields of infra/servicenow.
func New(opt Options) *Twin {
	return &Twin{opt: opt, kit: twin.NewKit(twin.Config{Name: "servicenow", Now: opt.Now, Seed: opt.Seed})}
}

// Handler serves the instance's API and /_twin/.
func (t *Twin) Handler() http.Handler {
	return t.kit.Handler(http.NotFoundHandler(), func() any { return nil }, func() {})
}

// AddField adds a field to a table, as an administrator does.
func (t *Twin) AddField(object string, f Field) error { return nil }

// Kit is the shared part: faults, counters, webhooks.
func (t *Twin) Kit() *twin.Kit { return t.kit }

// Credentials give a connector access to this twin.
func (t *Twin) Credentials() servicenow.Credentials { return t.opt.Credentials }

// Edit does what a person does in the browser: it creates (empty id) or changes a record and returns its id.
func (t *Twin) Edit(object, id string, fields map[string]any) (string, error) {
	return "", fmt.Errorf("servicenowtwin: not built yet")
}

// Delete removes a record as a person does.
func (t *Twin) Delete(object, id string) error { return fmt.Errorf("servicenowtwin: not built yet") }

// Get returns a living record in the Table API's shape.
func (t *Twin) Get(object, id string) (map[string]any, bool) { return nil, false }

// All returns every living record of an object, oldest first.
func (t *Twin) All(object string) []map[string]any { return nil }
