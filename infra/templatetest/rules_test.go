package templatetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sorrel/shared/queue"
	"sorrel/shared/record"
)

const (
	day      = 24 * 60 * 60
	lambdaNS = "AWS/Lambda"
	sqsNS    = "AWS/SQS"
)

// environment says which of the SORREL_ variables a function reads, by the function's folder name.
type environment func(function string) []string

// rule is one thing that must hold for a template; check returns what does not, one line each.
type rule struct {
	name  string
	check func(stack) []string
}

func rules(reads environment) []rule {
	return []rule{
		{"queues", queues},
		{"queue sources", queueSources},
		{"functions", functions},
		{"memory", memory},
		{"environment", func(s stack) []string { return variables(s, reads) }},
		{"rights", rights},
		{"no wildcard", noWildcard},
		{"logs", logs},
		{"routes", routes},
		{"lookups", lookupRoutes},
		{"access log", accessLog},
		{"table", table},
		{"bucket", buckets},
		{"schedules", schedules},
		{"alarms", alarms},
		{"runbooks", runbooks},
		{"dashboard", dashboard},
	}
}

// platforms are those that batch reads and deliver writes.
var platforms = []string{record.NetSuite, record.Salesforce, record.ServiceNow, record.Zendesk}

// problems collects what a rule finds.
type problems []string

func (p *problems) unless(ok bool, format string, args ...any) {
	if !ok {
		*p = append(*p, fmt.Sprintf(format, args...))
	}
}

// folder is the folder of a function's main package: HubFunction is functions/hub.
func folder(id string) string { return strings.ToLower(strings.TrimSuffix(id, "Function")) }

func queues(s stack) []string {
	var p problems
	dead := s.deadLetters()
	tls := map[string]bool{}
	for _, id := range s.resources("AWS::SQS::QueuePolicy") {
		for _, st := range s.prop(id, "PolicyDocument", "Statement").list() {
			if st.at("Effect").text() == "Deny" && st.at("Principal").text() == "*" && st.at("Action").text() == "sqs:*" &&
				st.at("Condition", "Bool", "aws:SecureTransport").text() == "false" {
				for _, q := range s.prop(id, "Queues").list() {
					tls[q.target()] = tls[q.target()] || st.at("Resource").target() == q.target()
				}
			}
		}
	}
	for _, id := range s.resources("AWS::SQS::Queue") {
		get := func(path ...string) node { return s.prop(id, path...) }
		size, keep := get("MaximumMessageSize").number(), get("MessageRetentionPeriod").number()
		p.unless(size == 1<<20, "%s: MaximumMessageSize is %v, want 1048576 as shared/queue allows", id, size)
		if r := get("RedrivePolicy", "maxReceiveCount"); r.is() {
			p.unless(get("VisibilityTimeout").number()*r.number() >= outage, "%s: a table that is away for %v s makes dead letters of its messages", id, outage)
		}
		p.unless(get("SqsManagedSseEnabled").isTrue() || get("KmsMasterKeyId").is(), "%s: not encrypted", id)
		p.unless(tls[id], "%s: no policy refuses requests without TLS", id)
		fifo := get("FifoQueue").isTrue()
		if fifo {
			p.unless(get("DeduplicationScope").text() == "messageGroup" && get("FifoThroughputLimit").text() == "perMessageGroupId",
				"%s: not a high-throughput FIFO queue", id)
			p.unless(!get("ContentBasedDeduplication").isTrue(), "%s: senders must give the deduplication id", id)
		}
		if sources := dead[id]; len(sources) > 0 {
			p.unless(keep == 14*day, "%s: a dead-letter queue keeps messages for 14 days, not for %v seconds", id, keep)
			p.unless(!get("RedrivePolicy").is(), "%s: a dead-letter queue has no dead-letter queue", id)
			queueSources := 0
			for _, src := range sources {
				if s.kind(src) != "AWS::SQS::Queue" {
					continue
				}
				queueSources++
				name := s.prop(src, "QueueName", "Fn::Sub").text()
				allowed := slices.ContainsFunc(get("RedriveAllowPolicy", "sourceQueueArns").list(), func(n node) bool {
					return name != "" && strings.HasSuffix(n.at("Fn::Sub").text(), ":"+name)
				})
				p.unless(get("RedriveAllowPolicy", "redrivePermission").text() == "byQueue" && allowed, "%s: RedriveAllowPolicy does not name %s", id, src)
			}
			p.unless(queueSources > 0 || get("RedriveAllowPolicy", "redrivePermission").text() == "denyAll",
				"%s: no queue redrives into it, so RedriveAllowPolicy must say denyAll", id)
			continue
		}
		dlq := get("RedrivePolicy", "deadLetterTargetArn").target()
		p.unless(s.kind(dlq) == "AWS::SQS::Queue", "%s: no dead-letter queue", id)
		p.unless(s.prop(dlq, "FifoQueue").isTrue() == fifo, "%s: its dead-letter queue %s must be of the same kind (FIFO or not)", id, dlq)
		p.unless(get("RedrivePolicy", "maxReceiveCount").number() == queue.MaxReceives, "%s: maxReceiveCount is not queue.MaxReceives", id)
		p.unless(keep > 0 && keep < s.prop(dlq, "MessageRetentionPeriod").number(), "%s: retention must be set and below that of %s", id, dlq)
		consumers := slices.DeleteFunc(s.sources(), func(src source) bool { return src.queue != id })
		p.unless(len(consumers) == 1, "%s: %d functions read it, want 1", id, len(consumers))
	}
	return p
}

func queueSources(s stack) []string {
	var p problems
	for _, src := range s.sources() {
		p.unless(slices.ContainsFunc(src.props.at("FunctionResponseTypes").list(), func(n node) bool { return n.text() == "ReportBatchItemFailures" }),
			"%s: one bad message would fail its whole batch, ReportBatchItemFailures is missing", src.id)
		p.unless(src.props.at("BatchSize").number() == 10, "%s: BatchSize is not 10", src.id)
		most := s.value(src.props.at("ScalingConfig", "MaximumConcurrency")).number()
		p.unless(most >= 2 && most <= 1000, "%s: MaximumConcurrency is %v, want 2 to 1000", src.id, most)
		visible, timeout := s.prop(src.queue, "VisibilityTimeout").number(), s.setting(src.function, "Timeout").number()
		p.unless(timeout > 0 && visible >= 6*timeout, "%s: visibility of %s is %v s, want 6 times the timeout of %s (%v s)", src.id, src.queue, visible, src.function, timeout)
	}
	p.unless(len(s.sources()) > 0, "no function reads a queue")
	return p
}

func functions(s stack) []string {
	var p problems
	roles := map[string]string{}
	for _, id := range s.functions() {
		for path, want := range map[string]string{"Runtime": "provided.al2023", "Handler": "bootstrap"} {
			p.unless(s.setting(id, path).text() == want, "%s: %s is not %s", id, path, want)
		}
		arch := s.setting(id, "Architectures").list()
		p.unless(len(arch) == 1 && arch[0].text() == "arm64", "%s: not on arm64", id)
		p.unless(s.prop(id, "Timeout").number() > 0 && s.prop(id, "MemorySize").number() > 0, "%s: timeout and memory must be its own", id)
		p.unless(s.prop(id, "FunctionName", "Fn::Sub").text() == "${AWS::StackName}-"+folder(id), "%s: FunctionName is not the stack's name and %s", id, folder(id))
		role := s.prop(id, "Role").target()
		p.unless(s.kind(role) == "AWS::IAM::Role", "%s: no role of its own", id)
		p.unless(roles[role] == "", "%s: shares its role with %s", id, roles[role])
		roles[role] = id
		trust := s.prop(role, "AssumeRolePolicyDocument", "Statement").list()
		p.unless(len(trust) == 1 && trust[0].at("Principal", "Service").text() == "lambda.amazonaws.com", "%s: somebody else than Lambda may take its role", id)
		if s.kind(id) == "AWS::Serverless::Function" {
			p.unless(s.doc.at("Resources", id, "Metadata", "BuildMethod").text() == "makefile", "%s: not built by the Makefile", id)
		}
	}
	p.unless(len(roles) > 0, "no functions")
	return p
}

// softLimit is a function's GOMEMLIMIT in bytes; 0 = it has none that is whole MiB.
func softLimit(s stack, id string) float64 {
	var mib float64
	if _, err := fmt.Sscanf(s.variables(id)["GOMEMLIMIT"].text(), "%fMiB", &mib); err != nil {
		return 0
	}
	return mib * (1 << 20)
}

// memory leaves Lambda's own processes and what Go does not count their part, and the collector most of the rest.
func memory(s stack) []string {
	var p problems
	for _, id := range s.functions() {
		share := softLimit(s, id) / (1 << 20) / s.prop(id, "MemorySize").number()
		p.unless(share > 0.8 && share <= 0.85, "%s: GOMEMLIMIT is %.2f of MemorySize, want 0.80 to 0.85, in MiB", id, share)
	}
	return p
}

// readByGo lists the variables that no code of ours reads; memory has the other one.
var readByGo = map[string]string{"SSL_CERT_DIR": "/nonexistent"}

func variables(s stack, reads environment) []string {
	var p problems
	for _, id := range s.functions() {
		set := s.variables(id)
		for name, want := range readByGo {
			p.unless(set[name].text() == want, "%s: %s is not %s", id, name, want)
			delete(set, name)
		}
		delete(set, "GOMEMLIMIT")
		for _, name := range reads(folder(id)) {
			p.unless(set[name].is(), "%s: reads %s, which is not set", id, name)
			delete(set, name)
		}
		for _, name := range slices.Sorted(maps.Keys(set)) {
			p.unless(false, "%s: %s is set, but it does not read it", id, name)
		}
	}
	return p
}

// statements are those of a policy, with those that stand under a condition.
func statements(policy node) []node {
	var out []node
	for _, st := range policy.at("PolicyDocument", "Statement").list() {
		if either := st.at("Fn::If").list(); len(either) == 3 {
			out = append(out, either[1]) // otherwise there is none
			continue
		}
		out = append(out, st)
	}
	return out
}

// rights compares what a function may do with what its variables and triggers say that it does, both ways.
func rights(s stack) []string {
	var p problems
	// Who changes the table. Intake has none at all.
	writes := []string{"hub", "deliver", "workflow", "publish", "batch", "files", "reconcile", "sweep", "lookup", "operate"}
	for _, id := range s.functions() {
		need := map[string]bool{}
		add := func(on string, actions ...string) {
			for _, a := range actions {
				need[a+" on "+on] = true
			}
		}
		add(s.setting(id, "LoggingConfig", "LogGroup").target(), "logs:CreateLogStream", "logs:PutLogEvents")
		for name, v := range s.variables(id) {
			switch {
			case name == "SORREL_TABLE":
				add(v.target(), "dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query")
				if slices.Contains(writes, folder(id)) {
					add(v.target(), "dynamodb:PutItem", "dynamodb:DeleteItem", "dynamodb:ConditionCheckItem")
				}
			case name == "SORREL_SUBSCRIBERS": // no more than the queues and buses that are named
				add("SubscriberQueues", "sqs:SendMessage")
				add("SubscriberBuses", "events:PutEvents")
			case name == "SORREL_SECRET_ARN":
				add(v.target(), "secretsmanager:GetSecretValue")
			case name == "SORREL_FILES_BUCKET":
				add(v.target(), "s3:ListBucket")
				add(v.target()+" below in/", "s3:GetObject")
			case strings.HasPrefix(name, "SORREL_QUEUE_"):
				add(v.target(), "sqs:SendMessage")
				if folder(id) == "sweep" && name != "SORREL_QUEUE_INBOUND" { // how many wake-ups of replays are left on it
					add(v.target(), "sqs:GetQueueAttributes")
				}
				if folder(id) == "operate" { // people look at what was given up, and send it once more
					add(s.prop(v.target(), "RedrivePolicy", "deadLetterTargetArn").target(), "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes")
				}
			}
		}
		for _, src := range s.sources() {
			if src.function == id {
				add(src.queue, "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
			}
		}
		if q := s.prop(id, "EventInvokeConfig", "DestinationConfig", "OnFailure", "Destination").target(); q != "" {
			add(q, "sqs:SendMessage")
		}
		for _, config := range s.resources("AWS::Lambda::EventInvokeConfig") {
			if q := s.prop(config, "DestinationConfig", "OnFailure", "Destination").target(); q != "" && s.prop(config, "FunctionName").target() == id {
				add(q, "sqs:SendMessage")
			}
		}
		for _, policy := range s.prop(s.prop(id, "Role").target(), "Policies").list() {
			for _, st := range statements(policy) {
				for _, action := range st.at("Action").list() {
					for _, on := range st.at("Resource").list() {
						right := action.text() + " on " + on.target()
						if bucket, prefix := objects(s, on); bucket != "" {
							right = action.text() + " on " + bucket + " below " + prefix
						}
						p.unless(need[right], "%s: may %s, but nothing says that it does", id, right)
						delete(need, right)
					}
				}
			}
		}
		for _, right := range slices.Sorted(maps.Keys(need)) {
			p.unless(false, "%s: may not %s", id, right)
		}
	}
	return p
}

// objects names the bucket of this template, and the prefix, of the objects that a resource means. There is no other way to
// name objects than with a star at the end.
func objects(s stack, on node) (bucket, prefix string) {
	m := regexp.MustCompile(`^\$\{(\w+)\.Arn\}/(.*)\*$`).FindStringSubmatch(on.at("Fn::Sub").text())
	if m == nil || s.kind(m[1]) != "AWS::S3::Bucket" {
		return "", ""
	}
	return m[1], m[2]
}

// noWildcard: no role has a star in an action or a resource, and every resource is one of this template. The one star that
// remains is inside the ARN that CloudFormation gives for a log group; it means the streams of that group.
func noWildcard(s stack) []string {
	var p problems
	for _, kind := range []string{"AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy"} {
		for _, id := range s.resources(kind) {
			p.unless(false, "%s: rights belong into the role of one function, not into an %s", id, kind)
		}
	}
	for _, id := range s.resources("AWS::Serverless::Function") {
		p.unless(!s.prop(id, "Policies").is(), "%s: SAM policies are wider than a role of its own", id)
	}
	for _, id := range s.resources("AWS::IAM::Role") {
		p.unless(!s.prop(id, "ManagedPolicyArns").is(), "%s: managed policies have wildcard resources", id)
		for _, policy := range s.prop(id, "Policies").list() {
			for _, st := range statements(policy) {
				p.unless(st.at("Action").is() && st.at("Resource").is(), "%s: a statement must list actions and resources", id)
				for _, action := range st.at("Action").list() {
					p.unless(!strings.Contains(action.text(), "*"), "%s: action %s has a wildcard", id, action.text())
				}
				for _, on := range st.at("Resource").list() {
					if bucket, prefix := objects(s, on); bucket != "" {
						p.unless(prefix != "" && !strings.Contains(prefix, "*"), "%s: may reach all of %s", id, bucket)
						continue
					}
					p.unless(!strings.Contains(on.String(), "*"), "%s: resource %s has a wildcard", id, on)
					named := strings.Contains(s.doc.at("Parameters", on.target(), "AllowedPattern").text(), "[^*?]") // ARNs that whoever deploys names, each a whole one
					p.unless(named || s.doc.at("Resources", on.target()).is(), "%s: resource %s is not one of this template", id, on)
				}
			}
		}
	}
	return p
}

func logs(s stack) []string {
	var p problems
	for _, id := range s.functions() {
		config := func(name string) node { return s.setting(id, "LoggingConfig", name) }
		group := config("LogGroup").target()
		p.unless(s.kind(group) == "AWS::Logs::LogGroup", "%s: no log group of its own", id)
		p.unless(s.prop(group, "LogGroupName", "Fn::Sub").text() == "/aws/lambda/${AWS::StackName}-"+folder(id), "%s: %s is not named after it", id, group)
		p.unless(config("LogFormat").text() == "JSON", "%s: its log is not JSON", id)
		p.unless(config("ApplicationLogLevel").text() == "TRACE", "%s: Lambda would drop lines that carry metrics", id)
	}
	for _, id := range s.resources("AWS::Logs::LogGroup") {
		p.unless(s.prop(id, "RetentionInDays").is(), "%s: keeps its log for ever", id)
	}
	return p
}

// route is a method and path of the API, with the function that answers it.
type route struct {
	id, method, path, function string
	signed                     bool // only for requests with an IAM identity
}

// routes of the API, as written or as translated to OpenAPI.
func (s stack) routes() []route {
	var out []route
	for _, f := range s.functions() {
		events := s.prop(f, "Events")
		for _, name := range events.keys() {
			if e := events.at(name, "Properties"); events.at(name, "Type").text() == "HttpApi" {
				signed := e.at("Auth", "Authorizer").text() == "AWS_IAM" && s.prop(e.at("ApiId").target(), "Auth", "EnableIamAuthorizer").isTrue()
				out = append(out, route{f + "." + name, e.at("Method").text(), e.at("Path").text(), f, signed})
			}
		}
	}
	for _, id := range s.resources("AWS::ApiGatewayV2::Api") {
		paths := s.prop(id, "Body", "paths")
		iam := s.prop(id, "Body", "components", "securitySchemes", "AWS_IAM", "x-amazon-apigateway-authtype").text() == "awsSigv4"
		for _, path := range paths.keys() {
			for _, method := range paths.at(path).keys() {
				op := paths.at(path, method)
				answers := ""
				for _, m := range placeholder.FindAllStringSubmatch(op.at("x-amazon-apigateway-integration", "uri", "Fn::Sub").text(), -1) {
					if slices.Contains(s.functions(), m[1]) {
						answers = m[1]
					}
				}
				schemes := op.at("security").list()
				out = append(out, route{id + " " + method + " " + path, strings.ToUpper(method), path, answers, iam && len(schemes) == 1 && schemes[0].at("AWS_IAM").is()})
			}
		}
	}
	return out
}

// routes: vendors send webhooks to intake, which authenticates them itself; everything else is for people, and nobody gets
// there without an IAM identity.
func routes(s stack) []string {
	var p problems
	methods := map[string]bool{}
	for _, r := range s.routes() {
		if r.path == "/webhooks/{platform}" {
			p.unless(r.method == "POST" && r.function == "IntakeFunction" && !r.signed, "%s: webhooks are posted to intake, and vendors have no IAM identity", r.id)
			continue
		}
		p.unless(r.signed, "%s: open to everybody, want IAM authorization", r.id)
		p.unless(r.path == "/v1/{path+}" && r.function == "OperateFunction", "%s: people ask under /v1/, and operate answers", r.id)
		methods[r.method] = true
	}
	got := strings.Join(slices.Sorted(maps.Keys(methods)), " ")
	p.unless(got == "DELETE GET POST PUT", "people may send %s, want DELETE GET POST PUT and nothing else", got)
	return p
}

// lookupRoutes: programs show a token, or a key that the function checks; nothing else is there, and the description is for all.
func lookupRoutes(s stack) []string {
	var p problems
	want := map[string]string{"GET /v1/{path+}": "JWT", "GET /keyed/v1/{path+}": "NONE", "GET /v1/openapi.json": "NONE"}
	for _, id := range s.resources("AWS::ApiGatewayV2::Route") {
		key, target := s.prop(id, "RouteKey").text(), placeholder.FindStringSubmatch(s.prop(id, "Target", "Fn::Sub").text())
		p.unless(want[key] != "" && s.prop(id, "AuthorizationType").text() == want[key], "%s: %s is asked for by %s, want %s", id, key, s.prop(id, "AuthorizationType").text(), want[key])
		p.unless(want[key] != "JWT" || s.prop(s.prop(id, "AuthorizerId").target(), "AuthorizerType").text() == "JWT", "%s: nobody checks its tokens", id)
		p.unless(len(target) == 2 && s.prop(target[1], "IntegrationUri").target() == "LookupFunction" && s.prop(target[1], "PayloadFormatVersion").text() == "2.0", "%s: lookup does not answer", id)
		delete(want, key)
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		p.unless(false, "no route %s", key)
	}
	return p
}

// harmless lists what an access log may hold. A query string may carry a token.
var harmless = []string{
	"requestId", "requestTimeEpoch", "identity.sourceIp", "identity.userArn", "routeKey", "path", "status", "responseLength", "responseLatency",
	"integrationStatus", "integrationLatency", "integrationErrorMessage",
}

func accessLog(s stack) []string {
	var p problems
	stages := s.resources("AWS::Serverless::HttpApi", "AWS::ApiGatewayV2::Stage")
	p.unless(len(stages) == 2, "%d HTTP stages, want 2: of people and platforms, and of programs", len(stages))
	for _, id := range stages {
		format := s.prop(id, "AccessLogSettings", "Format").text()
		p.unless(s.kind(s.prop(id, "AccessLogSettings", "DestinationArn").target()) == "AWS::Logs::LogGroup", "%s: no access log", id)
		p.unless(json.Valid([]byte(format)), "%s: access log line is not JSON", id)
		for _, v := range regexp.MustCompile(`\$([A-Za-z.]+)`).FindAllStringSubmatch(format, -1) {
			name, ok := strings.CutPrefix(v[1], "context.")
			p.unless(ok && slices.Contains(harmless, name), "%s: access log has $%s, which is not known to be free of secrets", id, v[1])
		}
		for _, limit := range []string{"ThrottlingRateLimit", "ThrottlingBurstLimit"} {
			p.unless(s.prop(id, "DefaultRouteSettings", limit).number() > 0, "%s: %s is not set", id, limit)
		}
	}
	return p
}

func table(s stack) []string {
	var p problems
	tables := s.resources("AWS::DynamoDB::Table")
	p.unless(len(tables) == 1, "%d tables, want 1", len(tables))
	for _, id := range tables {
		get := func(path ...string) node { return s.prop(id, path...) }
		keys := get("KeySchema").String() + get("AttributeDefinitions").String()
		p.unless(keys == `[{"AttributeName":"part","KeyType":"HASH"},{"AttributeName":"sort","KeyType":"RANGE"}]`+
			`[{"AttributeName":"part","AttributeType":"B"},{"AttributeName":"sort","AttributeType":"B"}]`, "%s: key is not part and sort, both binary: %s", id, keys)
		p.unless(get("BillingMode").text() == "PAY_PER_REQUEST", "%s: not on demand", id)
		p.unless(get("TimeToLiveSpecification", "Enabled").isTrue() && get("TimeToLiveSpecification", "AttributeName").text() == "expires", "%s: no expiry by `expires`", id)
		p.unless(get("PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled").isTrue(), "%s: no point-in-time recovery", id)
		p.unless(get("SSESpecification", "SSEEnabled").isTrue(), "%s: not encrypted by KMS", id)
		p.unless(get("DeletionProtectionEnabled").String() == `{"Fn::If":["IsProd",true,false]}`, "%s: not protected from deletion in prod", id)
	}
	for _, id := range append(tables, s.resources("AWS::SecretsManager::Secret")...) {
		for _, policy := range []string{"DeletionPolicy", "UpdateReplacePolicy"} {
			p.unless(s.doc.at("Resources", id, policy).text() == "Retain", "%s: %s is not Retain", id, policy)
		}
		p.unless(!s.prop(id, "SecretString").is(), "%s: a secret's value must not be in the template", id)
	}
	return p
}

// buckets hold what may be personal data: nobody else reaches it, and it does not stay for ever.
func buckets(s stack) []string {
	var p problems
	tls := map[string]bool{}
	for _, id := range s.resources("AWS::S3::BucketPolicy") {
		for _, st := range s.prop(id, "PolicyDocument", "Statement").list() {
			on := st.at("Resource").list()
			tls[s.prop(id, "Bucket").target()] = st.at("Effect").text() == "Deny" && st.at("Principal").text() == "*" && st.at("Action").text() == "s3:*" &&
				st.at("Condition", "Bool", "aws:SecureTransport").text() == "false" && len(on) == 2 && on[0].target() == s.prop(id, "Bucket").target()
		}
	}
	all := s.resources("AWS::S3::Bucket")
	p.unless(len(all) == 1, "%d buckets, want 1", len(all))
	for _, id := range all {
		get := func(path ...string) node { return s.prop(id, path...) }
		for _, name := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
			p.unless(get("PublicAccessBlockConfiguration", name).isTrue(), "%s: %s is not set", id, name)
		}
		p.unless(len(get("BucketEncryption", "ServerSideEncryptionConfiguration").list()) == 1, "%s: not encrypted", id)
		p.unless(tls[id], "%s: no policy refuses requests without TLS", id)
		rules := get("LifecycleConfiguration", "Rules").list()
		p.unless(len(rules) == 1 && rules[0].at("ExpirationInDays").number() > 0 && rules[0].at("NoncurrentVersionExpiration", "NoncurrentDays").number() > 0, "%s: keeps what comes to it for ever", id)
		p.unless(!get("BucketName").is(), "%s: a fixed name collides with a second stack", id)
		for _, policy := range []string{"DeletionPolicy", "UpdateReplacePolicy"} {
			p.unless(s.doc.at("Resources", id, policy).text() == "Retain", "%s: %s is not Retain", id, policy)
		}
	}
	return p
}

func schedules(s stack) []string {
	var p problems
	started, compared := map[string]bool{}, map[string]bool{}
	seen := func(id, function string, props, name node) {
		input := props.at("Input")
		if !input.is() {
			input = props.at("Target", "Input")
		}
		role := props.at("RoleArn").target() + props.at("Target", "RoleArn").target()
		p.unless(!name.is(), "%s: a fixed name collides with a second stack, OmitName is missing", id)
		p.unless(s.kind(props.at("GroupName").target()) == "AWS::Scheduler::ScheduleGroup", "%s: not in the stack's schedule group", id)
		p.unless(s.kind(role) == "AWS::IAM::Role", "%s: no role", id)
		every, timeout := props.at("ScheduleExpression").text(), s.setting(function, "Timeout").number()
		period := map[string]float64{"rate(1 minute)": 60, "rate(5 minutes)": 300, "rate(6 hours)": 21600, "rate(7 days)": 604800}[every]
		p.unless(timeout < period, "%s: %s may run for %v s, which is not below %s", id, function, timeout, every)
		var in struct{ Platform string }
		p.unless(json.Unmarshal([]byte(input.text()), &in) == nil, "%s: input is not JSON", id)
		switch {
		case folder(function) == "batch":
			started[in.Platform] = true
		case folder(function) == "reconcile" && in.Platform != "":
			compared[in.Platform] = true
		}
	}
	for _, f := range s.functions() {
		events := s.prop(f, "Events")
		for _, name := range events.keys() {
			p.unless(!strings.HasPrefix(events.at(name, "Type").text(), "Schedule") || events.at(name, "Type").text() == "ScheduleV2", "%s.%s: not a ScheduleV2", f, name)
			if props := events.at(name, "Properties"); events.at(name, "Type").text() == "ScheduleV2" {
				fixed := node{"its logical id"}
				if props.at("OmitName").isTrue() {
					fixed = props.at("Name")
				}
				seen(f+"."+name, f, props, fixed)
			}
		}
	}
	for _, id := range s.resources("AWS::Scheduler::Schedule") {
		seen(id, s.prop(id, "Target", "Arn").target(), s.prop(id), s.prop(id, "Name"))
	}
	got := slices.Sorted(maps.Keys(started))
	p.unless(slices.Equal(got, platforms), "batch is scheduled for %v, want %v", got, platforms)
	got = slices.Sorted(maps.Keys(compared))
	p.unless(slices.Equal(got, platforms), "reconcile is scheduled for %v, want %v", got, platforms)
	return p
}

// outage is for how many seconds the table may be away before a message is given up.
const outage = 15 * 60

func alarms(s stack) []string {
	var p problems
	watched := map[string]bool{}
	for _, id := range s.resources("AWS::CloudWatch::Alarm") {
		for _, action := range []string{"AlarmActions", "OKActions"} {
			to := s.prop(id, action).list()
			p.unless(len(to) == 1 && s.kind(to[0].target()) == "AWS::SNS::Topic", "%s: %s does not go to the topic", id, action)
		}
		p.unless(s.prop(id, "TreatMissingData").is(), "%s: TreatMissingData is not set", id)
		s.prop(id).each(func(n node) {
			for _, d := range n.at("Dimensions").list() {
				of := d.at("Value").target() + d.at("Value").text() // a resource, or a platform by name
				watched[n.at("Namespace").text()+" "+n.at("MetricName").text()+" of "+of] = true
				if n.at("MetricName").text() == "Duration" {
					limit := s.setting(d.at("Value").target(), "Timeout").number() * 800
					p.unless(n.at("Threshold").number() == limit, "%s: threshold is not 80 %% of the timeout (%v ms)", id, limit)
				}
				if n.at("MetricName").text() == "ApproximateNumberOfMessagesVisible" {
					p.unless(n.at("Threshold").number() == 0 && n.at("ComparisonOperator").text() == "GreaterThanThreshold", "%s: does not tell of the first message", id)
				}
			}
		})
	}
	want := func(ns, metric, of string) {
		p.unless(watched[ns+" "+metric+" of "+of], "no alarm on %s of %s", metric, of)
	}
	dead := s.deadLetters()
	for _, id := range s.resources("AWS::SQS::Queue") {
		if len(dead[id]) > 0 {
			want(sqsNS, "ApproximateNumberOfMessagesVisible", id)
		} else {
			want(sqsNS, "ApproximateAgeOfOldestMessage", id)
		}
	}
	for _, id := range s.functions() {
		for _, metric := range []string{"Errors", "Throttles", "Duration"} {
			want(lambdaNS, metric, id)
		}
	}
	for _, id := range s.resources("AWS::DynamoDB::Table") {
		for _, metric := range []string{"ReadThrottleEvents", "WriteThrottleEvents", "SystemErrors"} {
			want("AWS/DynamoDB", metric, id)
		}
	}
	for _, id := range s.resources("AWS::Serverless::HttpApi", "AWS::ApiGatewayV2::Api") {
		want("AWS/ApiGateway", "5xx", id)
	}
	for _, id := range s.resources("AWS::Scheduler::ScheduleGroup") {
		want("AWS/Scheduler", "TargetErrorCount", id)
	}
	want("Sorrel", "DueOldestAge", record.Sorrel)
	for _, metric := range []string{"WorkflowsStuck", "WorkflowsLate"} {
		want("Sorrel", metric, "Stage")
	}
	for _, metric := range []string{"WebhooksRefused", "PlatformDown", "DueOldestAge", "DriftExcepted", "ReconcileFailures"} {
		for _, platform := range platforms {
			want("Sorrel", metric, platform)
		}
	}
	for _, desk := range []string{"zendesk", "servicenow"} {
		soonest := math.Inf(1)
		for _, id := range s.resources("AWS::CloudWatch::Alarm") {
			if a := s.prop(id); a.at("MetricName").text() == "DueOldestAge" && len(a.at("Dimensions").list()) == 2 && a.at("Dimensions").list()[1].at("Value").text() == desk {
				soonest = min(soonest, a.at("Threshold").number()+a.at("Period").number()*a.at("EvaluationPeriods").number())
			}
		}
		p.unless(soonest <= promised/3, "service teams on %s may be behind for %v s before anybody is alerted, of the %v s that they are promised", desk, soonest, promised)
	}
	return p
}

// promised is the age in seconds at which what people on a platform see is too old.
const promised = 15 * 60

// unasked are the pages for work that no alarm asks for.
var unasked = []string{"secrets", "proposals", "exceptions", "merges", "audit", "replay", "files", "batch"}

// runbooks: every alarm says what to do in a page that is there, and every page but those belongs to an alarm.
func runbooks(s stack) []string {
	var p problems
	unused := map[string]bool{}
	pages, err := filepath.Glob(filepath.Join(root, "infra/runbooks/*.md"))
	p.unless(err == nil && len(pages) > 0, "no runbooks: %v", err)
	for _, page := range pages {
		unused["infra/runbooks/"+filepath.Base(page)] = true
	}
	for _, page := range unasked {
		p.unless(unused["infra/runbooks/"+page+".md"], "infra/runbooks/%s.md is missing", page)
		delete(unused, "infra/runbooks/"+page+".md")
	}
	for _, id := range s.resources("AWS::CloudWatch::Alarm") {
		text := s.prop(id, "AlarmDescription").text()
		_, page, _ := strings.Cut(text, " Runbook: ")
		info, err := os.Stat(filepath.Join(root, page))
		p.unless(page != "" && err == nil && !info.IsDir(), "%s: no runbook in %q", id, text)
		delete(unused, page)
	}
	for _, page := range slices.Sorted(maps.Keys(unused)) {
		p.unless(false, "%s: no alarm sends anybody there", page)
	}
	return p
}

func dashboard(s stack) []string {
	var p problems
	boards := s.resources("AWS::CloudWatch::Dashboard")
	p.unless(len(boards) == 1, "%d dashboards, want 1", len(boards))
	for _, id := range boards {
		body := s.prop(id, "DashboardBody", "Fn::Sub").text()
		p.unless(json.Valid([]byte(placeholder.ReplaceAllString(body, "x"))), "%s: body is not JSON", id)
		for _, m := range placeholder.FindAllStringSubmatch(body, -1) {
			known := m[1] == "AWS::Region" || s.doc.at("Resources", m[1]).is() || s.doc.at("Parameters", m[1]).is()
			p.unless(known, "%s: shows %s, which is not in the template", id, m[1])
		}
		for _, f := range append(s.functions(), s.resources("AWS::SQS::Queue")...) {
			p.unless(strings.Contains(body, "${"+f+"}") || strings.Contains(body, "${"+f+"."), "%s: does not show %s", id, f)
		}
	}
	return p
}
