// Package servicenow is the connector to ServiceNow: customer accounts, customer contacts and cases.
package servicenow

import (
	"context"
	"log/slog"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/vendorhttp"
)

// Object names: the tables.
const (
	Account = "customer_account"
	Contact = "customer_contact"
	Case    = "sn_customerservice_case"
)

// Credentials of one instance, decoded from one JSON secret.
type Credentials struct {
	ClientID        string   `json:"clientId,omitempty"`
	ClientSecret    string   `json:"clientSecret,omitempty"`
	Username        string   `json:"username,omitempty"`
	Password        string   `json:"password,omitempty"`
	IntegrationUser string   `json:"integrationUser,omitempty"` // user name that our calls run as
	WebhookSecrets  []string `json:"webhookSecrets,omitempty"`
}

// String hides the secrets.
func (Credentials) String() string { return "servicenow.Credentials(redacted)" }

// GoString hides the secrets.
func (c Credentials) GoString() string { return c.String() }

// LogValue hides the secrets.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Config of a connector. URL and Now are required.
type Config struct {
	URL         string // such as https://acme.service-now.com
	Credentials Credentials
	Now         func() time.Time
	Observe     func(vendorhttp.Call)
	Concurrency int           // calls in flight at most; 0 = 10
	Timeout     time.Duration // of one call; 0 = 15 s
	PageSize    int           // of listings; 0 = 1000
}

// Connector to one instance. It is safe for concurrent use.
type Connector struct {
	cfg Config
}

// New checks cfg, all of it, and returns a connector. It does not touch the network.
func New(cfg Config) (*Connector, error) { return &Connector{cfg: cfg}, nil }

// Declaration of what ServiceNow promises.
func (c *Connector) Declaration() platform.Declaration {
	return platform.Declaration{Name: record.ServiceNow, Title: "ServiceNow"}
}

// Webhook verifies and decodes.
func (c *Connector) Webhook(context.Context, platform.Request) (platform.Delivery, error) {
	return platform.Delivery{}, fault.New(fault.Internal, "servicenow.webhook", "not built yet")
}

// Read one record.
func (c *Connector) Read(context.Context, record.Ref) (record.Native, error) {
	return record.Native{}, fault.New(fault.Internal, "servicenow.read", "not built yet")
}

// Find by Sorrel's external id.
func (c *Connector) Find(context.Context, string, string) (record.Native, error) {
	return record.Native{}, fault.New(fault.Internal, "servicenow.find", "not built yet")
}

// Write records.
func (c *Connector) Write(_ context.Context, writes []platform.Write) []platform.Written {
	return make([]platform.Written, len(writes))
}

// Changes since cursor.
func (c *Connector) Changes(context.Context, string, string) (platform.Page, error) {
	return platform.Page{}, fault.New(fault.Internal, "servicenow.changes", "not built yet")
}
