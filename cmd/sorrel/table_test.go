package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"sorrel/shared/cloud"
	"sorrel/shared/cloud/localservers"
	"sorrel/shared/ledger"
	"sorrel/shared/record"
)

// TestDecidingOnATable: with --table people ask about a deployed stack and decide there, over its table alone.
func TestDecidingOnATable(t *testing.T) {
	endpoint := localservers.DynamoDB(t)
	for name, v := range map[string]string{"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": localservers.Region, "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local",
		"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_PROFILE": "", "SORREL_PERSON": "stewart@northwind.example"} {
		t.Setenv(name, v)
	}
	account, err := cloud.Open(cloud.Settings{Endpoints: cloud.Endpoints{All: endpoint}, Region: localservers.Region, AccessKeyID: "local", SecretKey: "local"})
	if err != nil {
		t.Fatal(err)
	}
	if err := account.CreateTable(t.Context(), "deployed"); err != nil {
		t.Fatal(err)
	}
	l := ledger.New(account.Store("deployed", cloud.StoreOptions{Calls: cloud.Calls{Now: time.Now}}), time.Now)
	x := ledger.Exception{Type: "unmatched", Platform: record.Zendesk, Native: "zendesk/organization/900", Detail: "nobody knows it"}
	x.Identify()
	if err := l.Park(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	sorrel := func(code int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if got := run(t.Context(), append(args, "--table", "deployed"), screen{out: &out, err: &errs}); got != code {
			t.Fatalf("sorrel %v: exit code %d\n%s%s", args, got, &out, &errs)
		}
		return out.String() + errs.String()
	}
	for _, step := range []struct {
		code int
		args string
		says string
	}{
		{0, "exceptions", x.ID + "  unmatched  open"},
		{1, "exceptions ignore " + x.ID + " --reason tests --as mallory", "nobody that people.yaml knows"},
		{1, "exceptions ignore " + x.ID + " --reason tests --as alice@northwind.example", "role steward"},
		{0, "exceptions ignore " + x.ID + " --reason tests", x.ID + ": "},
		{0, "exceptions", "nothing to look at"},
		{0, "exceptions show " + x.ID, "stewart@northwind.example"},
		{0, "exceptions retry " + x.ID, x.ID + ": "}, // there is no queue: the sweep reads it again
		{0, "proposals", "nothing to decide"},
		{0, "status", "table deployed"},
		{0, "audit verify", "whole: "},
	} {
		if said := sorrel(step.code, strings.Fields(step.args)...); !strings.Contains(said, step.says) {
			t.Errorf("sorrel %s says %q, want %q", step.args, said, step.says)
		}
	}
	for r, err := range l.Rechecks(t.Context()) {
		if err != nil || r.Ref.String() != x.Native {
			t.Errorf("to be read again: %+v (%v)", r, err)
		}
		return
	}
	t.Error("nothing is left for the sweep to read again")
}
