package shared_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pkg is what `go list` says about one package.
type pkg struct {
	ImportPath   string
	Standard     bool
	Imports      []string
	TestImports  []string
	XTestImports []string
}

const module = "sorrel/"

// under reports whether a package is dir itself or below it; dir is relative to the module.
func under(p string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool {
		return p == module+d || strings.HasPrefix(p, module+d+"/")
	})
}

// vendors are the rooms that speak one vendor's language.
var vendors = []string{"shared/netsuite", "shared/salesforce", "shared/zendesk", "shared/servicenow"}

func isTwin(p string) bool {
	return strings.HasPrefix(p, module) && (strings.HasSuffix(path.Base(p), "twin") || strings.HasSuffix(path.Base(p), "twins"))
}

func isTestHelper(p string) bool {
	return strings.HasSuffix(p, "test") || under(p, "shared/cloud/localservers")
}

// broken says which dependency rule an import of `to` by the product code of `from` breaks, or "".
func broken(from, to string, standard bool) string {
	own := strings.HasPrefix(to, module)
	const decimal = "github.com/shopspring/decimal"
	switch {
	case under(from, "shared/record", "shared/fault") && !standard && to != decimal:
		return "record and fault import only the standard library and decimal"
	case (from == module+"shared/store" || from == module+"shared/queue") && !standard && to != module+"shared/fault":
		return "store and queue know only fault"
	case under(from, "shared/budget") && own && !under(to, "shared/fault"):
		return "budget knows only fault"
	case under(from, "shared/workflow") && own && !under(to, "shared/record", "shared/fault"):
		return "workflow is a pure core over record"
	case under(from, "shared/entitlement") && own && !under(to, "shared/record"):
		return "entitlement is pure: it knows only record"
	case under(from, "shared/process") && own && under(to, "shared/store", "shared/queue", "shared/ledger", "shared/govern", "shared/flow", "shared/cloud", "shared/trigger", "shared/boot", "shared/local"):
		return "processes are pure: they are run by flow/workflow"
	case under(from, "shared/ledger") && own && !under(to, "shared/store", "shared/record", "shared/fault", "shared/budget", "shared/jsonread", "shared/workflow"):
		return "ledger stands on store, record, workflow, fault, budget and jsonread"
	case under(from, "shared/once") && own && !under(to, "shared/ledger", "shared/fault"):
		return "once stands on ledger and fault"
	case under(from, "shared/ledger") && under(to, "shared/store/boltstore"):
		return "ledger knows the contract, no adapter"
	case under(from, "shared/certificate") && own && !under(to, "shared/record", "shared/fault"):
		return "certificate is pure, and can be checked without the rest"
	case under(from, "shared/flow") && own && !under(to, "shared/record", "shared/contract", "shared/policy", "shared/mapping", "shared/ledger",
		"shared/queue", "shared/fault", "shared/telemetry", "shared/message", "shared/platform", "shared/match", "shared/govern", "shared/budget", "shared/once", "shared/files", "shared/deadline", "shared/workflow", "shared/event", "shared/certificate", "shared/entitlement"):
		return "flows know neither vendors, cloud, trigger nor each other"
	case under(from, "shared/flow") && under(to, "shared/queue/durable"):
		return "flows know the queue's contract, no adapter"
	case !under(from, "shared/cloud") && strings.HasPrefix(to, "github.com/aws/aws-sdk-go-v2"):
		return "only cloud imports the AWS SDK"
	case !under(from, "shared/trigger", "shared/local", "functions") && strings.HasPrefix(to, "github.com/aws/aws-lambda-go"):
		return "only trigger, functions and local import aws-lambda-go"
	case under(to, "shared/store/boltstore", "shared/queue/durable") && !under(from, "shared/store", "shared/queue", "shared/boot", "shared/bench", "cmd"):
		return "only boot chooses an embedded adapter, and bench measures one"
	case isTwin(to) && !isTwin(from) && !isTestHelper(from) && !under(from, "cmd/sorrel", "shared/bench", "shared/simulation"):
		return "twins are for tests, cmd/sorrel and bench, and for the simulation, which these play"
	case under(to, "shared/simulation") && !under(from, "cmd/sorrel", "shared/bench", "shared/simulation"):
		return "the simulation is for tests, cmd/sorrel and bench: it has twins in it"
	case isTestHelper(to) && !isTestHelper(from) && !(under(from, "shared/bench") && under(to, "shared/match/matchtest")):
		return "test helpers are for tests"
	case under(from, "shared/expression", "shared/match") && under(to, "shared/policy", "shared/mapping"):
		return "policy knows expression and match, not the other way round"
	case own && under(from, "shared/contract", "shared/govern", "shared/expression", "shared/match", "shared/mapping", "shared/policy", "shared/message", "shared/telemetry") &&
		(under(to, vendors...) || under(to, "shared/cloud", "shared/flow", "shared/trigger", "shared/boot", "shared/local")):
		return "the core points inwards"
	}
	return ""
}

func listed(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Standard,Imports,TestImports,XTestImports", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 20 {
		t.Fatalf("go list found %d packages, want the whole module", len(all))
	}
	return all
}

func isStandard(p string) bool {
	return !strings.Contains(strings.SplitN(p, "/", 2)[0], ".") && !strings.HasPrefix(p, module)
}

func TestImports(t *testing.T) {
	t.Parallel()
	for _, p := range listed(t) {
		for _, to := range p.Imports {
			if why := broken(p.ImportPath, to, isStandard(to)); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, to, why)
			}
		}
		for _, to := range slices.Concat(p.TestImports, p.XTestImports) {
			lambda := strings.HasPrefix(to, "github.com/aws/aws-lambda-go")
			if lambda && !under(p.ImportPath, "shared/trigger", "shared/local", "functions", "infra/templatetest") {
				t.Errorf("a test of %s imports %s: only trigger, functions, local and infra/templatetest may", p.ImportPath, to)
			}
			if strings.HasPrefix(to, "github.com/aws/aws-sdk-go-v2") && !under(p.ImportPath, "shared/cloud") {
				t.Errorf("a test of %s imports %s: only cloud may", p.ImportPath, to)
			}
		}
	}
}

// The tour names every package; "netsuitetwin" and its like are the twins beside their connectors.
func TestTour(t *testing.T) {
	t.Parallel()
	tour, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	words := regexp.MustCompile(`[a-z]+`).FindAllString(string(tour), -1)
	for _, p := range listed(t) {
		if name := path.Base(p.ImportPath); under(p.ImportPath, "shared") && !isTwin(p.ImportPath) && !slices.Contains(words, name) {
			t.Errorf("doc.go does not name %s", p.ImportPath)
		}
	}
}

// TestRulesCanFail breaks every rule once.
func TestRulesCanFail(t *testing.T) {
	t.Parallel()
	rows := []struct{ from, to string }{
		{"shared/record", "gopkg.in/yaml"},
		{"shared/fault", module + "shared/record"},
		{"shared/store", module + "shared/record"},
		{"shared/queue", "github.com/oklog/ulid/v2"},
		{"shared/process", module + "shared/ledger"},
		{"shared/certificate", module + "shared/ledger"},
		{"shared/entitlement", module + "shared/policy"},
		{"shared/ledger", module + "shared/queue"},
		{"shared/ledger", module + "shared/store/boltstore"},
		{"shared/once", module + "shared/flow/steward"},
		{"shared/flow/hub", module + "shared/netsuite"},
		{"shared/flow/hub", module + "shared/cloud"},
		{"shared/flow/hub", module + "shared/trigger"},
		{"shared/flow/hub", module + "shared/flow/deliver"},
		{"shared/flow/hub", module + "shared/store"},
		{"shared/flow/sweep", module + "shared/queue/durable"},
		{"shared/boot", "github.com/aws/aws-sdk-go-v2/service/sqs"},
		{"shared/flow/hub", "github.com/aws/aws-lambda-go/events"},
		{"shared/trigger", module + "shared/store/boltstore"},
		{"shared/boot", module + "shared/zendesk/zendesktwin"},
		{"shared/boot", module + "shared/simulation"},
		{"shared/boot", module + "shared/store/storetest"},
		{"shared/policy", module + "shared/flow/hub"},
		{"shared/expression", module + "shared/cloud"},
		{"shared/match", module + "shared/policy"},
	}
	for _, r := range rows {
		if broken(module+r.from, r.to, isStandard(r.to)) == "" {
			t.Errorf("%s may import %s", r.from, r.to)
		}
	}
	for _, r := range []struct{ from, to string }{
		{"shared/record", "github.com/shopspring/decimal"}, {"shared/store", "context"}, {"shared/store/boltstore", "go.etcd.io/bbolt"},
		{"shared/flow/hub", module + "shared/ledger"}, {"shared/policy", module + "shared/expression"}, {"shared/policy", module + "shared/match"}, {"cmd/sorrel", module + "shared/zendesk/zendesktwin"},
		{"shared/cloud", "github.com/aws/aws-sdk-go-v2/service/sqs"}, {"functions/hub", "github.com/aws/aws-lambda-go/lambda"},
	} {
		if why := broken(module+r.from, r.to, isStandard(r.to)); why != "" {
			t.Errorf("%s may not import %s: %s", r.from, r.to, why)
		}
	}
}
