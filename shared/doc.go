// Package shared is a guide. There is nothing in it to import; it walks through the repository from the bottom up and
// says what each room holds and the one idea to keep in mind there. Checklists for the usual extensions are at the end.
//
// # Words and the pure core
//
// record holds the vocabulary (Value, Version, Ref, View, Record, Proposal) and pure functions. Observe merges what a
// platform said into its view, Fold computes the golden fields and moves proposals on, Project computes what a platform
// still has to be told, Unite and Divide make one record of two and two of one, Explain says why. The idea: state is kept contributions and truth is a fold over them, so order and repetition change nothing.
//
// event makes CloudEvents of lines of the audit log, for subscribers, and their JSON Schemas. The idea: the log is the outbox.
//
// workflow is the pure core of processes that take days and people: Advance moves a run on by what records say now, Take by
// what people do. The idea: a step is a goal over records, not a call (decision 017).
//
// process holds the definitions of the product (activation, reopening, escalation, calm, entitlement, coverage, payment, account-activity) and what
// workflows.yaml may say about them. The idea: a process is a list of functions that can be tested with records made up on the spot.
//
// entitlement judges whether a customer is owed service. The idea: whoever asks and whatever marks cases share one judgement.
//
// taxid says whether a tax number can be one, by its country's form and check digits. It asks nobody.
//
// fault is the closed list of failure classes and the one table from class to HTTP status, queue outcome and alarm.
// The idea: an error says what should happen next, not which line failed.
//
// jsonread reads JSON as encoding/json does, at a third of the cost, where that counts (decision 009).
//
// budget is what a platform lets us call, shared by all workers: limits, classes of calls, the breaker. The idea: a vendor's
// patience is the scarcest thing there is, and is spent on the most urgent first.
//
// deadline is about the time that an invocation has left. The idea: nothing is begun that cannot be finished.
//
// platform is what a connector declares, decodes, reads, writes, lists and counts, in the platform's own words;
// platform/platformtest is the suite that all connectors pass. The idea: native stays native up to the mapping.
//
// files reads and writes CSV and JSON Lines, row by row. The idea: a broken row is told with its line and the others go on,
// and nothing is guessed that could be declared.
//
// certificate signs what a run of reconciliation compared, and checks that, offline. The idea: there is one way to write it
// down, so no byte can differ.
//
// # Configuration
//
// contract, mapping and policy compile infra/config: the shape of each entity, its translation from and to each
// platform, and who decides which field. contract/source reads the files and remembers positions. expression is the small
// language of conditions and computed fields in a policy (decision 010); match says by normalised keys which native records
// mean the same thing (decision 012). The idea: a Set exists only if nothing is wrong, and everything wrong is told at once
// with file:line:column and a remedy.
//
// # Memory
//
// store is three verbs (Get, Commit, Range) over ordered keys; boltstore, cloud and a memory store implement them and
// store/storetest holds all of them to one contract. The idea: all or nothing, under the condition of revisions.
//
// ledger is the only user of the store: domain verbs, the key table, the prices of each verb. The idea: one record is
// one item, which holds its views, its golden fields, what is due and what is open. So they never disagree.
//
// once does what leaves no state to compare with, such as a message that is sent on, under a key. The idea: whoever finds it
// begun and not finished looks before it is repeated.
//
// queue is the contract of an SQS FIFO queue; queue/durable and cloud implement it, queue/queuetest checks. message
// is what travels: Inbound (a platform said something) and Wake (look at this record). The idea: queues only wake
// workers up; losing a message loses no data.
//
// # Flows
//
// govern settles a record after anything about it has changed, for whoever changed it: fold, holds, due marks, exceptions,
// match claims, the audit log's line. The idea: there is one way to end a change, and it is one commit.
//
// flow/intake verifies, decodes, queues and answers. flow/hub hears: one commit per record. flow/deliver projects,
// writes and confirms. flow/batch lists what changed, as webhooks would have told it, and loads what there is. flow/load takes in files, likewise;
// flow/export writes them, by the same mappings. flow/sweep wakes what is due, and
// what time alone changes. flow/steward is everything that people do: approve, override, merge, resolve.
// flow/deadletters shows what was given up, and sends it again. flow/replay does again what was done, after a plan.
// flow/reconcile compares what platforms hold with what the hub knows, by counts, and observes what differs.
// flow/workflow gathers what steps look at and commits what they want, and takes what people answer. flow/publish tells
// subscribers what the log says that they were not told. flow/lookup answers programs that ask, and reads owners live.
// flow/operate answers questions. flow/link matches, before going live, what exists on all platforms. The idea: an event is
// a hint; what is written is the difference
// between what should be there and what is there. Flows declare the small interfaces that they need, and know no vendor
// and no cloud.
//
// # Edges
//
// netsuite, salesforce, zendesk and servicenow are the connectors, over vendorhttp (sign-in, bounds, breaker, classified
// errors). Beside each is its twin, a stand-in of the vendor with its limits, oddities and webhooks; twin is what they
// share (faults, counters under /_twin/) and twins boots all. The idea: a twin refuses what the vendor refuses, so that
// a mistake shows here.
//
// cloud is everything that knows the AWS SDK. telemetry is events for people and metrics for machines. trigger turns
// Lambda events into calls of the flows, and is the HTTP interface of people (Desk). boot turns an environment into a Config and that into a World, in which the
// same flows stand over AWS's adapters or embedded ones. local is the host that triggers the same handlers in one
// process. The idea: what runs here is what runs on AWS, down to the event's JSON.
//
// drift shows the report of a reconciliation to people, as text and as an HTML page that stands alone. The idea: a report is
// data, and looks are a function of it.
//
// # Programs and tests of the whole
//
// functions/<name> are the Lambda functions, wiring only. cmd/sorrel is the command line. infra holds configuration,
// kits for the platforms, runbooks and decision records; template.yaml deploys. simulation plays whole histories from a
// seed, with faults at every edge. endtoend, flow's own tests and infra/templatetest test what no single package can; bench measures against floors. imports_test.go, beside this
// file, holds the rule of who may import whom.
//
// Others in a package's folder are part of it: bench has the floors (floor), the work (load) and processes apart (peer);
// cloud/cliconfig opens an account for people, cloud/bucket lists objects for the function that takes files in, cloud/localservers runs AWS's protocols for tests. contract/contracttest
// draws values, match/matchtest customers of whom it is known who is who.
//
// # Add a field
//
// A field of your own, in YAML alone; the README shows the exact lines.
//
//  1. infra/config/policy/<entity>.yaml: a line under custom:, and under fields: if its rule differs from the entity's.
//  2. infra/config/mapping/<platform>.<entity>.yaml: in each, a line under fields:, or its name under unmapped:.
//  3. `sorrel validate`. It names every place that was forgotten.
//  4. The platforms: create the field there. NetSuite's script needs it in custscript_sorrel_extra_fields as well.
//
// A field for everybody goes into contract/<entity>.v1.json instead (adding an optional one is no breaking change), into
// the golden copies that the tests of contract and mapping compare with, into the kits under infra/ and into the twins.
//
// # Add an entity
//
//  1. infra/config/contract/<entity>.v1.json: flat, dotted names (decision 004).
//  2. infra/config/policy/<entity>.yaml: its platforms, origins, groups, owners, paths, match rules, deletions.
//  3. infra/config/mapping/<platform>.<entity>.yaml for each of its platforms.
//  4. A golden pair per mapping: shared/mapping/testdata/golden, and a golden copy in shared/contract/testdata.
//  5. The native object must be known to the connector: netsuite's catalogue (columns.go), zendesk.Config.CustomObjects
//     (a ticket's custom fields need nothing: ticket_fields.KEY in a mapping);
//     Salesforce reads the fields that the mappings name. Give it to the twin and to the harness of the suite, too.
//  6. The kits: infra/salesforce (object, fields, permission set, channel member), infra/zendesk/setup.json, and a
//     deployment of NetSuite's script. The tests of the kits compare them with the connectors.
//  7. References decide order: a record is delivered after those that it refers to, at most three levels deep.
//
// # Add a platform
//
//  1. Its name: a constant in record/native.go, and the lists of policy/compile.go and infra/config/schema.
//  2. A package of its own with Config, Credentials (which hide themselves when printed), New and the methods of
//     boot.Connector; the Declaration, the webhook scheme and the error table beside the code, with vendor URLs. An error
//     is one of package fault's classes; a write without an answer is fault.Unknown. Nothing retries inside.
//  3. A twin in <platform>twin, over package twin: sign-in, limits, errors, webhooks as the vendor signs them.
//  4. platformtest.Run, Unknown and Census once per object that it writes; fuzz targets for what it parses. Better still,
//     a client that somebody else wrote against the twin (see clienttest).
//  5. boot: Platforms and connectOne. twins: Start and SendTo. imports_test.go: vendors. The remedies that list the
//     platforms, in flow/intake and flow/batch.
//  6. template.yaml: address parameter, outbound queue with its dead letters, event source of deliver, schedule of batch,
//     environment, rights, alarms, dashboard. samconfig.toml: the address. events/: a sample per trigger. The tests in
//     infra/templatetest name what is forgotten.
//  7. Mappings for the entities that it takes part in, and the platform in their policies.
//  8. infra/<platform>: what has to be set up at the vendor. infra/runbooks/secrets.md: its credentials.
//
// # Add a workflow
//
//  1. shared/process: a definition. Steps are pure functions of Facts that say what is set (Set), waited for (Wait), asked (Ask),
//     told (Say) or given up (Fail); each is asked again whenever something has changed, so what is set already must not be
//     wanted anew. What a step brings about, its Undo takes back; from a Final step on there is no way back. Needs names the
//     records whose changes wake a run, Lists those that it only looks at, Fresh those whose owners are to be asked.
//  2. Its process in all(): the workflows that records start, the entities it is about, and the fields that it sets, each with
//     the rule that it must have: assign: workflow, or an owner who is asked.
//  3. infra/config/policy/<entity>.yaml: its name under workflows:, the fields that it sets under fields:. New fields: see Add a field.
//  4. What a company decides goes into infra/config/workflows.yaml: read it in define, add it to infra/config/schema/workflows.json
//     and to the package comment.
//  5. Tests: in shared/process over made-up records, every order of events; in shared/endtoend over the twins. What it must never
//     do belongs into the laws of simulation.
//  6. Changed later: a run keeps its version. Keep the old definition beside the new one until its last run has ended.
//
// # Add a flow
//
//  1. flow/<name>: Deps, New, an Apply that may be repeated at any point, and interfaces of one or two methods. It may import
//     record, contract, policy, mapping, match, govern, ledger, queue, message, platform, fault and telemetry, and no other flow.
//  2. What it remembers becomes verbs of ledger, with a row in the key table and in the table of prices.
//  3. trigger: decode its event strictly. boot: what it needs of the environment, and a method of World.
//  4. functions/<name>/main.go; FUNCTIONS and a build-… target in the Makefile; template.yaml with alarms; a sample in events/.
//  5. local: trigger it as AWS would.
package shared
