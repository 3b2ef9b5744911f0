// Package cloud holds the AWS adapters: the DynamoDB store, the SQS queue, the secret reader and the account
// that opens them. It and its sub-packages are the only importers of the AWS SDK.
//
// # The table
//
// One table serves one installation. Key attributes are `part` (hash) and `sort` (range), both binary, so that
// every byte string is a key and the order is bytewise. The other attributes are `value`, `rev` and, where the
// entry expires, `expires` in epoch seconds, which is also the TTL attribute. A value that is valid UTF-8 is kept
// as a string so that JSON can be read in the AWS console; any other value is kept as binary. The console shows
// the keys in base64. Expiry is judged by the injected clock at every read and inside every precondition; TTL
// only reclaims the space, days later.
//
// # What each verb costs
//
// Sizes are whole items: attribute names, key, value, revision. RRU and WRU are request units of on-demand
// tables (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html);
// StoreOptions.OnUnits reports them by these rules, not from ConsumedCapacity, which local servers get wrong.
//
//	verb                       requests               RRU                          WRU
//	Get                        1 GetItem              ⌈size/4 KB⌉, at least 1      0
//	GetMany of n               ⌈n/100⌉ BatchGetItem   sum of ⌈size/4 KB⌉, 1 each   0
//	                           (more above 16 MB)     for missing keys
//	Range                      1 Query per page       ⌈size of page/4 KB⌉          0
//	                           of 25, 100, 400, 1000  at least 1, with expired
//	Commit of one put          1 PutItem              0                            ⌈size/1 KB⌉ of the larger of old and new
//	Commit of one delete       1 DeleteItem           0                            ⌈size/1 KB⌉ of the old
//	Commit of one check        1 GetItem              ⌈size/4 KB⌉, at least 1      0
//	Commit of n ≥ 2            1 TransactWriteItems   0                            sum of 2·⌈size/1 KB⌉; a check counts
//	                                                                               as its item
//	the same, conflict         the same               the same                     the same: a failed condition is charged
//
// The store does not read what it overwrites, so OnUnits counts a put by its new size and a delete or a check inside
// a transaction as 1 KB, unless a failed condition brought the old item back. A lone check is a strongly consistent
// read, which proves as much as a transaction of one ConditionCheck at a tenth of the price or less.
//
// # Lost acknowledgements
//
// The store and the queue make their own bounded, jittered attempts and switch the SDK's retries off for their
// calls, because only who makes the attempts knows whether one of them went unanswered (timeout, broken
// connection, 5xx). What a failed precondition means then:
//
//	commit               how its own effect is recognised                 otherwise
//	one put, condition   the item that comes back carries our revision    fault.Unknown
//	one delete, condition never: nothing is left that could tell          fault.Unknown
//	several operations   the request token repeats the first outcome      *store.ConflictError, which is exact
//	one without condition not needed: it is sent again, a put with a      -
//	                     new revision, so it may take effect twice
//
// fault.Unknown from Commit therefore means: read again before deciding. It is never returned when every attempt was
// answered. A caller that must know whether a lone conditional delete was its own puts it in a commit with a second
// operation.
//
// # Queues
//
//	verb      requests
//	Send      1 SendMessageBatch per 10 messages or 1 MiB
//	Receive   1 ReceiveMessage, a long poll in whole seconds
//	Delete    1 DeleteMessageBatch per 10 receipts
//	Release   1 ChangeMessageVisibilityBatch per 10 receipts
//	Depth     1 GetQueueAttributes
//
// SQS charges one request per 64 KB of payload. In high-throughput FIFO mode, which CreateQueues and the template
// use, SQS drops repeats of a dedup id within a message group, not across groups.
//
// # Lambda
//
// Open builds the client configuration by hand: the SDK's default loader costs 80 to 100 ms of a cold start with
// 256 MB and 1.9 MB of the binary. The template sets SSL_CERT_DIR=/nonexistent so that Go parses the bundle of
// certificate roots once, not twice more from the directory beside it. Command-line tools use cloud/cliconfig.
package cloud
