# `make` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# A count, not a time: until Go 1.27 a run that ends by time sometimes fails for no reason (golang/go#75804).
FUZZTIME ?= 10000x
FUNCTIONS := intake hub deliver workflow publish batch files reconcile sweep lookup operate
GO_DIRS := $(wildcard cmd functions shared infra)
# lambda.norpc leaves out the RPC mode of the retired go1.x runtime; no build id and no VCS stamp: equal source gives equal bytes.
LAMBDA_BUILD := CGO_ENABLED=0 GOOS=linux GOARCH=arm64 go build -tags lambda.norpc -trimpath -buildvcs=false -ldflags "-s -w -buildid="

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-zA-Z-]*:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build every function for Lambda and the command line tool, into bin/
	@set -e; for f in $(FUNCTIONS); do echo "bin/$$f/bootstrap"; $(LAMBDA_BUILD) -o bin/$$f/bootstrap ./functions/$$f; done
	go build -trimpath -o bin/sorrel ./cmd/sorrel

# `sam build` calls build-<LogicalId> with ARTIFACTS_DIR.
build-IntakeFunction: FUNCTION = intake
build-HubFunction: FUNCTION = hub
build-DeliverFunction: FUNCTION = deliver
build-WorkflowFunction: FUNCTION = workflow
build-PublishFunction: FUNCTION = publish
build-BatchFunction: FUNCTION = batch
build-FilesFunction: FUNCTION = files
build-ReconcileFunction: FUNCTION = reconcile
build-SweepFunction: FUNCTION = sweep
build-LookupFunction: FUNCTION = lookup
build-OperateFunction: FUNCTION = operate
.PHONY: build-IntakeFunction build-HubFunction build-DeliverFunction build-WorkflowFunction build-PublishFunction build-BatchFunction build-FilesFunction build-ReconcileFunction build-SweepFunction build-LookupFunction build-OperateFunction
build-IntakeFunction build-HubFunction build-DeliverFunction build-WorkflowFunction build-PublishFunction build-BatchFunction build-FilesFunction build-ReconcileFunction build-SweepFunction build-LookupFunction build-OperateFunction:
	$(LAMBDA_BUILD) -o "$(ARTIFACTS_DIR)/bootstrap" ./functions/$(FUNCTION)

.PHONY: test
test: lint ## everything CI checks: lint, all tests with the race detector, a short fuzz of every target
	go test -race -shuffle=on -timeout 25m ./...
	@$(MAKE) --no-print-directory fuzz

# The default checks and two that they leave out: ST1000 every package says what it is for, ST1016 one receiver name per type.
# ST1003 (names) stays out: fields of AWS requests are spelt as on the wire. ST1020 to ST1022 stay out: a doc comment that
# states a contract need not begin with the name.
STATICCHECK := go tool staticcheck -checks inherit,ST1000,ST1016

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@out=$$(gofmt -l $(GO_DIRS)) && if [ -n "$$out" ]; then echo "not formatted, run gofmt -w:"; echo "$$out"; exit 1; fi
	go vet ./...
	$(STATICCHECK) ./...

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (default 10000x)
	@set -e -o pipefail; { grep -rE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*\(' $(GO_DIRS) || true; } | sed -E 's/^(.*)\/[^/]*_test\.go:func (Fuzz[A-Za-z0-9_]*)\(.*/\1 \2/' | sort | \
	while read -r dir name; do \
		echo "fuzz ./$$dir $$name"; go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "./$$dir" </dev/null; \
	done

.PHONY: prepare
prepare: ## install what some tests need beside Go: Python with cfn-lint and the SAM translator, the npm clients
	@sh infra/templatetest/python.sh
	@set -e -o pipefail; git ls-files '*package-lock.json' | while read -r lock; do \
		echo "npm ci in $$(dirname "$$lock")"; (cd "$$(dirname "$$lock")" && npm ci --no-audit --no-fund --ignore-scripts </dev/null); \
	done

.PHONY: demo
demo: ## play the business story against local twins, check it, and end
	go run ./cmd/sorrel demo --exit

.PHONY: validate
validate: ## check the configuration and the deployment template
	go run ./cmd/sorrel validate
	go test -count=1 ./infra/templatetest
