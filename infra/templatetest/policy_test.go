package templatetest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sorrel/shared/boot"
)

const root = "../.."

// expected is what the functions read.
var expected environment = boot.Variables

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func written(t *testing.T, text string) stack {
	t.Helper()
	s, err := parseYAML([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTemplateAsWritten(t *testing.T) {
	t.Parallel()
	obeys(t, written(t, read(t, "template.yaml")))
}

func obeys(t *testing.T, s stack) {
	t.Helper()
	if n := len(s.functions()); n != 11 {
		t.Errorf("%d functions, want 11", n)
	}
	for _, r := range rules(expected) {
		for _, problem := range r.check(s) {
			t.Errorf("%s: %s", r.name, problem)
		}
	}
}

// TestRulesCanFail breaks the template in one place at a time and expects the rule to say so. Every rule has at least one row.
func TestRulesCanFail(t *testing.T) {
	t.Parallel()
	template := read(t, "template.yaml")
	rows := []struct{ rule, old, new, want string }{
		{"memory", "GOMEMLIMIT: 217MiB", "GOMEMLIMIT: 256MiB", "GOMEMLIMIT is 1.00 of MemorySize"},
		{"memory", "MemorySize: 256", "MemorySize: 1024", "GOMEMLIMIT is 0.21 of MemorySize"},
		{"memory", "GOMEMLIMIT: 435MiB", "GOMEMLIMIT: 435", "GOMEMLIMIT is 0.00 of MemorySize"},
		{"queues", "RedrivePolicy: {deadLetterTargetArn: !GetAtt InboundDlq.Arn, maxReceiveCount: 5}", "DelaySeconds: 0", "InboundQueue: no dead-letter queue"},
		{"queues", "!GetAtt InboundDlq.Arn, maxReceiveCount: 5", "!GetAtt InboundDlq.Arn, maxReceiveCount: 1", "maxReceiveCount is not queue.MaxReceives"},
		{"queues", "!GetAtt InboundDlq.Arn, maxReceiveCount: 5", "!GetAtt RelayDlq.Arn, maxReceiveCount: 5", "must be of the same kind"},
		{"queues", "SqsManagedSseEnabled: true", "SqsManagedSseEnabled: false", "not encrypted"},
		{"queues", "MaximumMessageSize: 1048576", "DelaySeconds: 0", "MaximumMessageSize is 0"},
		{"queues", "FifoThroughputLimit: perMessageGroupId", "FifoThroughputLimit: perQueue", "not a high-throughput"},
		{"queues", `Action: "sqs:*", Resource: !GetAtt InboundQueue.Arn, Condition: {Bool: {"aws:SecureTransport": "false"}}`, `Action: "sqs:*", Resource: !GetAtt InboundQueue.Arn`, "InboundQueue: no policy refuses"},
		{"queues", `Action: "sqs:*", Resource: !GetAtt InboundQueue.Arn`, `Action: "sqs:*", Resource: !GetAtt InboundDlq.Arn`, "InboundQueue: no policy refuses"},
		{"queues", "MessageRetentionPeriod: 1209600", "MessageRetentionPeriod: 345600", "keeps messages for 14 days"},
		{"queues", "${AWS::AccountId}:${AWS::StackName}-inbound.fifo", "${AWS::AccountId}:${AWS::StackName}-other.fifo", "does not name InboundQueue"},
		{"queues", "redrivePermission: denyAll", "redrivePermission: allowAll", "must say denyAll"},
		{"queues", "Queue: !GetAtt ZendeskQueue.Arn", "Queue: !GetAtt NetSuiteQueue.Arn", "ZendeskQueue: 0 functions read it"},
		{"queue sources", "FunctionResponseTypes: [ReportBatchItemFailures]", "Enabled: true", "ReportBatchItemFailures is missing"},
		{"queue sources", "BatchSize: 10", "BatchSize: 1", "BatchSize is not 10"},
		{"queue sources", "ScalingConfig: {MaximumConcurrency: !Ref HubConcurrency}", "Enabled: true", "MaximumConcurrency is 0"},
		{"queue sources", "Timeout: 30", "Timeout: 31", "want 6 times the timeout of HubFunction (31 s)"},
		{"functions", "Architectures: [arm64]", "Architectures: [x86_64]", "not on arm64"},
		{"functions", "Role: !GetAtt HubRole.Arn", "Role: !GetAtt IntakeRole.Arn", "shares its role with HubFunction"},
		{"functions", "Service: lambda.amazonaws.com", "Service: ec2.amazonaws.com", "somebody else than Lambda"},
		{"functions", "BuildMethod: makefile", "BuildMethod: go1.x", "not built by the Makefile"},
		{"functions", "Timeout: 10 #", "#", "timeout and memory must be its own"},
		{"environment", "SORREL_QUEUE_INBOUND: !Ref InboundQueue", "SORREL_QUEUE_IN: !Ref InboundQueue", "SORREL_QUEUE_INBOUND, which is not set"},
		{"environment", "SORREL_QUEUE_INBOUND: !Ref InboundQueue", "SORREL_QUEUE_INBOUND: !Ref InboundQueue\n          SORREL_EXTRA: x", "SORREL_EXTRA is set"},
		{"environment", "SSL_CERT_DIR: /nonexistent", "SSL_CERT_FILE: /nonexistent", "SSL_CERT_DIR is not /nonexistent"},
		{"rights", `"dynamodb:PutItem", `, "", "may not dynamodb:PutItem on Table"},
		{"rights", `"dynamodb:Query", "dynamodb:PutItem", `, `"dynamodb:Query", "dynamodb:Scan", "dynamodb:PutItem", `, "HubFunction: may dynamodb:Scan on Table"},
		{"rights", `"dynamodb:Query", "dynamodb:PutItem", `, `"dynamodb:Query", `, "HubFunction: may not dynamodb:PutItem on Table"},
		{"rights", "OperateLog.Arn}\n", "OperateLog.Arn}\n              - {Effect: Allow, Action: \"secretsmanager:GetSecretValue\", Resource: !Ref Secret}\n", "OperateFunction: may secretsmanager:GetSecretValue on Secret"},
		{"rights", "!GetAtt ServiceNowQueue.Arn, !GetAtt WorkflowQueue.Arn, !GetAtt PublishQueue.Arn]", "!GetAtt ServiceNowQueue.Arn, !GetAtt PublishQueue.Arn]", "HubFunction: may not sqs:SendMessage on WorkflowQueue"},
		{"rights", `Action: "events:PutEvents", Resource: !Ref SubscriberBuses`, `Action: "events:PutEvents", Resource: !Ref Table`, "PublishFunction: may not events:PutEvents on SubscriberBuses"},
		{"rights", `"sqs:ChangeMessageVisibility", `, "", "OperateFunction: may not sqs:ChangeMessageVisibility on InboundDlq"},
		{"rights", "!GetAtt ServiceNowDlq.Arn, !GetAtt WorkflowDlq.Arn, !GetAtt PublishDlq.Arn]}", "!GetAtt RelayDlq.Arn]}", "OperateFunction: may not sqs:DeleteMessage on ServiceNowDlq"},
		{"rights", "Resource: [!GetAtt InboundQueue.Arn, !GetAtt RelayDlq.Arn]", "Resource: [!GetAtt InboundQueue.Arn]", "IntakeFunction: may not sqs:SendMessage on RelayDlq"},
		{"rights", "Resource: !Ref Secret}", "Resource: !Ref Table}", "may not secretsmanager:GetSecretValue on Secret"},
		{"rights", "SORREL_SECRET_ARN: !Ref Secret", "SORREL_STAGE: x", "may secretsmanager:GetSecretValue on Secret"},
		{"no wildcard", "Resource: !Ref Secret}", `Resource: "*"}`, "has a wildcard"},
		{"no wildcard", "Resource: !Ref Secret}", `Resource: !Sub "arn:aws:secretsmanager:${AWS::Region}:*"}`, "has a wildcard"},
		{"no wildcard", "Resource: !Ref Secret}", `Resource: "arn:aws:s3:::elsewhere"}`, "not one of this template"},
		{"no wildcard", `"sqs:SendMessage", Resource: [!GetAtt InboundQueue.Arn`, `"sqs:*", Resource: [!GetAtt InboundQueue.Arn`, "action sqs:* has a wildcard"},
		{"no wildcard", "Role: !GetAtt HubRole.Arn", "Policies: [AWSLambdaSQSQueueExecutionRole]", "SAM policies are wider"},
		{"no wildcard", "Description: Lets the schedules", "ManagedPolicyArns: [arn:aws:iam::aws:policy/ReadOnlyAccess]\n      Description: Lets the schedules", "managed policies"},
		{"logs", "LoggingConfig: {LogGroup: !Ref HubLog}", "LoggingConfig: {SystemLogLevel: INFO}", "HubFunction: no log group"},
		{"logs", "LoggingConfig: {LogGroup: !Ref HubLog}", "LoggingConfig: {LogGroup: !Ref SweepLog}", "SweepLog is not named after it"},
		{"logs", ", RetentionInDays: !FindInMap [Retention, !Ref Stage, Days]", "", "for ever"},
		{"logs", "LogFormat: JSON", "LogFormat: Text", "not JSON"},
		{"logs", "ApplicationLogLevel: TRACE", "ApplicationLogLevel: WARN", "drop lines"},
		{"routes", "Auth: {EnableIamAuthorizer: true}", "DisableExecuteApiEndpoint: false", "OperateFunction.Get: open to everybody"},
		{"routes", `Method: PUT, Path: "/v1/{path+}", Auth: {Authorizer: AWS_IAM}`, `Method: PUT, Path: "/v1/{path+}"`, "OperateFunction.Put: open to everybody"},
		{"routes", "Method: DELETE, ", "Method: ANY, ", "people may send ANY GET POST PUT"},
		{"routes", `Method: POST, Path: "/webhooks/{platform}"`, `Method: POST, Path: "/webhooks/{platform}", Auth: {Authorizer: AWS_IAM}`, "vendors have no IAM identity"},
		{"lookups", "AuthorizationType: JWT, AuthorizerId: !Ref LookupAuthorizer, ", "AuthorizationType: NONE, ", "LookupTokenRoute: GET /v1/{path+} is asked for by NONE"},
		{"lookups", `RouteKey: "GET /keyed/v1/{path+}"`, `RouteKey: "ANY /{path+}"`, "LookupKeyRoute: ANY /{path+} is asked for"},
		{"routes", `Path: "/webhooks/{platform}"`, `Path: "/{any+}"`, "IntakeFunction.Webhook: open to everybody"},
		{"access log", "$context.path", "$context.path?$context.queryString", "$context.queryString"},
		{"access log", `"path":"$context.path",`, `"path":"$context.path"`, "not JSON"},
		{"access log", "ThrottlingRateLimit: 500, ", "", "ThrottlingRateLimit is not set"},
		{"table", "AttributeName: sort, AttributeType: B", "AttributeName: sort, AttributeType: S", "key is not part and sort"},
		{"table", "AttributeName: expires, Enabled: true", "AttributeName: ttl, Enabled: true", "no expiry"},
		{"table", "PointInTimeRecoveryEnabled: true", "PointInTimeRecoveryEnabled: false", "point-in-time"},
		{"table", "SSEEnabled: true", "SSEEnabled: false", "not encrypted"},
		{"table", "!If [IsProd, true, false]", "false", "not protected"},
		{"table", "DeletionPolicy: Retain", "DeletionPolicy: Delete", "is not Retain"},
		{"bucket", "RestrictPublicBuckets: true", "RestrictPublicBuckets: false", "RestrictPublicBuckets is not set"},
		{"bucket", `Action: "s3:*"`, `Action: "s3:GetObject"`, "FilesBucket: no policy refuses"},
		{"bucket", "ExpirationInDays: 30, ", "", "keeps what comes to it for ever"},
		{"bucket", "    Type: AWS::S3::Bucket\n    DeletionPolicy: Retain", "    Type: AWS::S3::Bucket\n    DeletionPolicy: Delete", "DeletionPolicy is not Retain"},
		{"rights", `Resource: !Sub "${FilesBucket.Arn}/in/*"`, `Resource: !Sub "${FilesBucket.Arn}/out/*"`, "FilesFunction: may not s3:GetObject on FilesBucket below in/"},
		{"no wildcard", `Resource: !Sub "${FilesBucket.Arn}/in/*"`, `Resource: !Sub "${FilesBucket.Arn}/*"`, "may reach all of FilesBucket"},
		{"schedules", "OmitName: true", "State: ENABLED", "OmitName is missing"},
		{"schedules", `Input: '{"platform":"zendesk"}'`, `Input: '{"platform":"netsuite"}'`, "batch is scheduled for [netsuite salesforce servicenow]"},
		{"schedules", "Timeout: 50", "Timeout: 60", "may run for 60 s"},
		{"schedules", "Type: ScheduleV2", "Type: Schedule", "not a ScheduleV2"},
		{"alarms", "Value: !GetAtt ZendeskDlq.QueueName", "Value: !GetAtt NetSuiteDlq.QueueName", "no alarm on ApproximateNumberOfMessagesVisible of ZendeskDlq"},
		{"alarms", "Value: !GetAtt InboundQueue.QueueName", "Value: !GetAtt NetSuiteQueue.QueueName", "no alarm on ApproximateAgeOfOldestMessage of InboundQueue"},
		{"alarms", "MetricName: Throttles", "MetricName: Throttled", "no alarm on Throttles"},
		{"alarms", "Threshold: 8000", "Threshold: 9000", "80 % of the timeout (8000 ms)"},
		{"alarms", "MetricName: SystemErrors", "MetricName: UserErrors", "no alarm on SystemErrors of Table"},
		{"alarms", "{Name: Platform, Value: zendesk}]\n      Statistic: Maximum", "{Name: Platform, Value: netsuite}]\n      Statistic: Maximum", "no alarm on PlatformDown of zendesk"},
		{"alarms", "AlarmActions: [!Ref AlarmTopic]", "ActionsEnabled: true", "AlarmActions does not go to the topic"},
		{"alarms", "Threshold: 0\n", "Threshold: 1\n", "does not tell of the first message"},
		{"alarms", "Threshold: 120", "Threshold: 600", "service teams on zendesk may be behind for 720 s"},
		{"queues", "VisibilityTimeout: 180", "VisibilityTimeout: 179", "InboundQueue: a table that is away for 900 s makes dead letters"},
		{"runbooks", "Runbook: infra/runbooks/due-age.md", "", "no runbook in"},
		{"runbooks", "Runbook: infra/runbooks/due-age.md", "Runbook: infra/runbooks/none.md", "due-age.md: no alarm sends anybody there"},
		{"runbooks", "Runbook: infra/runbooks/due-age.md", "Runbook: infra/runbooks/audit.md", "due-age.md: no alarm sends anybody there"},
		{"dashboard", `["AWS/DynamoDB", "ConsumedReadCapacityUnits", "TableName", "${Table}"]`, `["AWS/DynamoDB", "ConsumedReadCapacityUnits", "TableName", "${Tabel}"]`, "shows Tabel"},
		{"dashboard", `{"widgets":[`, `{"widgets":`, "not JSON"},
		{"dashboard", "${RelayDlq.QueueName}", "${InboundDlq.QueueName}", "does not show RelayDlq"},
	}
	for _, r := range rules(expected) {
		covered := false
		for _, row := range rows {
			if row.rule != r.name {
				continue
			}
			covered = true
			if !strings.Contains(template, row.old) {
				t.Errorf("%s: the template has no %q to break", r.name, row.old)
				continue
			}
			found := r.check(written(t, strings.ReplaceAll(template, row.old, row.new)))
			if !slices.ContainsFunc(found, func(p string) bool { return strings.Contains(p, row.want) }) {
				t.Errorf("%s: %q instead of %q: found %q, want something with %q", r.name, row.new, row.old, found, row.want)
			}
		}
		if !covered {
			t.Errorf("rule %s is never seen to fail", r.name)
		}
	}
}

func TestShortTags(t *testing.T) {
	t.Parallel()
	s := written(t, `
A: !Ref Q
B: [!GetAtt Q.Arn, !Sub "${Q}-x", {C: !If [P, 1, !Ref "AWS::NoValue"]}]
D: !FindInMap [M, !Ref Stage, Days]
E: {F: !Not [!Equals [!Ref R, ""]], G: true, H: null, I: -1.5}
`)
	const want = `{"A":{"Ref":"Q"},"B":[{"Fn::GetAtt":["Q","Arn"]},{"Fn::Sub":"${Q}-x"},{"C":{"Fn::If":["P",1,{"Ref":"AWS::NoValue"}]}}],` +
		`"D":{"Fn::FindInMap":["M",{"Ref":"Stage"},"Days"]},"E":{"F":{"Fn::Not":[{"Fn::Equals":[{"Ref":"R"},""]}]},"G":true,"H":null,"I":-1.5}}`
	if got := s.doc.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, bad := range []string{"A: 1\nA: 2\n", "A: &x 1\nB: *x\n", "A: [", "A: 1\n---\nB: 2\n"} {
		if _, err := parseYAML([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestBuildTargets: SAM calls build-<LogicalId>, and each must build the folder of its function.
func TestBuildTargets(t *testing.T) {
	t.Parallel()
	makefile := read(t, "Makefile")
	got := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^build-(\w+): FUNCTION = (\w+)$`).FindAllStringSubmatch(makefile, -1) {
		got[m[1]] = m[2]
	}
	want := written(t, read(t, "template.yaml")).functions()
	for _, id := range want {
		if got[id] != folder(id) {
			t.Errorf("Makefile: build-%s builds %q, want %q", id, got[id], folder(id))
		}
	}
	if len(got) != len(want) {
		t.Errorf("Makefile builds %v, the template has %v", got, want)
	}
}

// TestSamConfig: both stages give only parameters that the template has, with values that it takes, and all it has no default for.
func TestSamConfig(t *testing.T) {
	t.Parallel()
	parameters := written(t, read(t, "template.yaml")).doc.at("Parameters")
	given := map[string]map[string]bool{}
	stage := ""
	section, entry := regexp.MustCompile(`^\[(\w+)\.deploy\.parameters\]`), regexp.MustCompile(`^\s*"(\w+)=([^"]*)",?$`)
	for _, line := range strings.Split(read(t, "samconfig.toml"), "\n") {
		if m := section.FindStringSubmatch(line); m != nil {
			stage = m[1]
			given[stage] = map[string]bool{}
		}
		m := entry.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		p := parameters.at(m[1])
		given[stage][m[1]] = true
		if !p.is() {
			t.Errorf("%s: the template has no parameter %s", stage, m[1])
		}
		if pattern := p.at("AllowedPattern").text(); !regexp.MustCompile(pattern).MatchString(m[2]) {
			t.Errorf("%s: %s=%s does not match %s", stage, m[1], m[2], pattern)
		}
		if allowed := p.at("AllowedValues").list(); len(allowed) > 0 && !slices.ContainsFunc(allowed, func(n node) bool { return n.text() == m[2] }) {
			t.Errorf("%s: %s=%s is none of %v", stage, m[1], m[2], allowed)
		}
		if m[1] == "Stage" && m[2] != stage {
			t.Errorf("environment %s deploys stage %s", stage, m[2])
		}
	}
	for _, stage := range []string{"dev", "prod"} {
		for _, name := range parameters.keys() {
			if !parameters.at(name, "Default").is() && !given[stage][name] {
				t.Errorf("samconfig.toml: %s does not give %s", stage, name)
			}
		}
		if !given[stage]["Stage"] {
			t.Errorf("samconfig.toml: %s does not give Stage", stage)
		}
	}
}
