// Package boot turns the environment into a validated configuration, once, and the configuration into wiring: the
// same flows over AWS's adapters in a Lambda function, or over embedded ones in one local process.
package boot

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"sorrel/shared/fault"
	"sorrel/shared/record"
)

// Names of the environment variables. template.yaml sets them.
const (
	EnvTable    = "SORREL_TABLE"
	EnvSecret   = "SORREL_SECRET_ARN"
	EnvInbound  = "SORREL_QUEUE_INBOUND"
	EnvOutbound = "SORREL_QUEUE_OUTBOUND_" // + platform in capitals
	EnvWorkflow = "SORREL_QUEUE_WORKFLOW"
	EnvPublish  = "SORREL_QUEUE_PUBLISH"
	EnvURL      = "SORREL_%s_URL" // platform in capitals
	EnvLogLevel = "SORREL_LOG_LEVEL"
	EnvStage    = "SORREL_STAGE"
	EnvStack    = "SORREL_STACK"
	EnvBucket   = "SORREL_FILES_BUCKET"
	// EnvSubscribers holds the addresses of subscribers: {"name": "arn:…"}.
	EnvSubscribers = "SORREL_SUBSCRIBERS"
)

// Platforms that this version can connect.
func Platforms() []string {
	return []string{record.NetSuite, record.Salesforce, record.Zendesk, record.ServiceNow}
}

// needs says what each function needs.
type needs struct{ table, secret, inbound, outbound, workflow, publish, tells, vendors, rules, bucket bool }

func functions() map[string]needs {
	return map[string]needs{
		"intake":    {secret: true, inbound: true, rules: true},
		"hub":       {table: true, secret: true, outbound: true, workflow: true, publish: true, vendors: true, rules: true},
		"deliver":   {table: true, secret: true, workflow: true, publish: true, vendors: true, rules: true},
		"workflow":  {table: true, secret: true, inbound: true, outbound: true, workflow: true, publish: true, vendors: true, rules: true},
		"publish":   {table: true, tells: true, rules: true},
		"batch":     {table: true, secret: true, inbound: true, vendors: true, rules: true},
		"reconcile": {table: true, secret: true, inbound: true, vendors: true, rules: true},
		"files":     {table: true, inbound: true, rules: true, bucket: true},
		"sweep":     {table: true, inbound: true, outbound: true, workflow: true, publish: true, rules: true},
		"lookup":    {table: true, secret: true, inbound: true, vendors: true, rules: true},
		"operate":   {table: true, inbound: true, outbound: true, workflow: true, publish: true, rules: true},
	}
}

// Variables lists the environment variables that a function reads, sorted. A test holds template.yaml to it.
func Variables(function string) []string {
	n, ok := functions()[function]
	if !ok {
		return nil
	}
	out := []string{EnvLogLevel, EnvStage}
	for name, wanted := range map[string]bool{EnvTable: n.table, EnvSecret: n.secret, EnvInbound: n.inbound, EnvWorkflow: n.workflow, EnvPublish: n.publish, EnvStack: n.tells, EnvSubscribers: n.tells, EnvBucket: n.bucket} {
		if wanted {
			out = append(out, name)
		}
	}
	for _, p := range Platforms() {
		if n.outbound {
			out = append(out, outboundVariable(p))
		}
		if n.vendors {
			out = append(out, urlVariable(p))
		}
	}
	slices.Sort(out)
	return out
}

func outboundVariable(p string) string { return EnvOutbound + strings.ToUpper(p) }
func urlVariable(p string) string      { return fmt.Sprintf(EnvURL, strings.ToUpper(p)) }

// Config of one function.
type Config struct {
	Function  string
	Stage     string // dev or prod; a metric dimension
	LogLevel  slog.Level
	Table     string
	SecretARN string
	Inbound   string // queue URL
	Workflow  string // queue URL
	Publish   string // queue URL
	Stack     string
	Bucket    string            // for files
	Addresses map[string]string // of subscribers
	Outbound  map[string]string // platform → queue URL
	URLs      map[string]string // platform → base URL
}

// Load reads a function's configuration and reports everything that is missing or wrong at once.
func Load(function string, getenv func(string) string) (Config, error) {
	n, ok := functions()[function]
	if !ok {
		return Config{}, fault.New(fault.Internal, "boot", fmt.Sprintf("no function %q; there are %v", function, slices.Sorted(maps.Keys(functions()))))
	}
	c := Config{Function: function, Stage: getenv(EnvStage), Outbound: map[string]string{}, URLs: map[string]string{}}
	var wrong []string
	need := func(wanted bool, name string) string {
		v := getenv(name)
		if wanted && v == "" {
			wrong = append(wrong, name+" is not set")
		}
		return v
	}
	c.Table, c.SecretARN, c.Inbound, c.Workflow = need(n.table, EnvTable), need(n.secret, EnvSecret), need(n.inbound, EnvInbound), need(n.workflow, EnvWorkflow)
	c.Publish, c.Stack, c.Bucket = need(n.publish, EnvPublish), need(n.tells, EnvStack), need(n.bucket, EnvBucket)
	var err error
	if c.Addresses, err = addresses(need(n.tells, EnvSubscribers)); err != nil {
		wrong = append(wrong, EnvSubscribers+": "+err.Error())
	}
	for _, p := range Platforms() {
		if v := need(n.outbound, outboundVariable(p)); v != "" {
			c.Outbound[p] = v
		}
		if v := need(n.vendors, urlVariable(p)); v != "" {
			c.URLs[p] = v
		}
	}
	if c.Stage == "" {
		wrong = append(wrong, EnvStage+" is not set")
	}
	if level := getenv(EnvLogLevel); level != "" {
		if err := c.LogLevel.UnmarshalText([]byte(level)); err != nil {
			wrong = append(wrong, fmt.Sprintf("%s is %q, want DEBUG, INFO, WARN or ERROR", EnvLogLevel, level))
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return Config{}, &fault.Error{Class: fault.Contract, Op: "boot", ID: function, Detail: strings.Join(wrong, "; "),
			Remedy: "set them in template.yaml; the README's section on deploying names each"}
	}
	return c, nil
}
