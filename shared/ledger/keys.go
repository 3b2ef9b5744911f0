package ledger

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"sorrel/shared/record"
	"sorrel/shared/store"
)

// The key table, schema version 1. Components are joined by an escaping encoder that keeps their order, so
// that no component can be confused with a separator.
//
//	part                            sort                      value
//	1 record <id>                   state                     stored: the record, what is due, open exceptions
//	1 log <shard>                   <chain>                   {}: the chain has begun
//	1 log <shard>                   <chain> <seq>             LogEntry
//	1 loghead                       general                   LogHead of the general chain; a record's stands in its state
//	1 link <platform> <object> <id> record                    the record id
//	1 roll <platform> <object> <shard> <id>                   a line of the roll: record id and newest version; see rollSort
//	1 claim <entity> <rule> <digest> records                  the ids of the records that hold a match key
//	1 timer <shard>                 <time> <record id>        {}: the record changes at that time by itself
//	1 referred <record id>          <record id>               Referrer: its golden fields refer to the former
//	1 proposal                      <proposal id>             ProposalEntry
//	1 due <platform> <shard>        <record id>               dueIndex: a pointer for the sweep
//	1 recheck <shard>               <platform> <object> <id>  Recheck: a native record to be read (again)
//	1 trace <correlation id>        <time> <n>                Step
//	1 exception                     <exception id>            Exception
//	1 cursor                        <platform> <object>       Listing; of files, a bare cursor
//	1 replay                        <replay id>               Replay
//	1 replay <replay id>            <page>                    []PlanEntry: a part of its plan
//	1 replaying                     <replay id>               {}: the sweep moves it on
//	1 reconciliation                <run id>                  the head of a run of reconciliation
//	1 reconciliation <run id>       <n>                       what it says about one set
//	1 reconciling                   <run id>                  {}: somebody has to move it on
//	1 reconciled                    <platform> <object>       Reconciled: the last run over it
//	1 run <definition> <record id>  <number>                  workflow.Run, about that record
//	1 openrun <shard>               <run id>                  RunHead: a run that has not ended
//	1 budget <platform>             state                     budget.State
//	1 certificate <run id>          file                      the certificate of a run of reconciliation, as signed
//	1 certified                     last                      Certified: the newest of them
//	1 certificatekey                <key id>                  CertificateKey: one that they were signed with
//	1 quota <consumer>              <minute>                  {taken}: questions that processes may ask in it
//	1 operation <kind> <digest>     once                      Operation: something that is done once
const schema = "1"

// shards spread what is due over partitions: 1,000 writes/s each (DynamoDB's partition limit).
const shards = 8

const (
	separator, escape = 0x01, 0x02
	special           = "\x00\x01\x02" // what key escapes
)

// key joins components so that comparing keys bytewise compares the components one after the other.
func key(parts ...string) string {
	var sb strings.Builder
	size := len(parts)
	for _, p := range parts {
		size += len(p)
	}
	sb.Grow(size)
	for i, p := range parts {
		if i > 0 {
			sb.WriteByte(separator)
		}
		if !strings.ContainsAny(p, special) {
			sb.WriteString(p)
			continue
		}
		for j := 0; j < len(p); j++ {
			if c := p[j]; c <= escape {
				sb.WriteByte(escape)
				sb.WriteByte(c + escape + 1)
			} else {
				sb.WriteByte(c)
			}
		}
	}
	return sb.String()
}

// split undoes key.
func split(k string) []string {
	parts := strings.Split(k, string(rune(separator)))
	for i, p := range parts {
		if strings.IndexByte(p, escape) < 0 {
			continue
		}
		var sb strings.Builder
		for j := 0; j < len(p); j++ {
			c := p[j]
			if c == escape && j+1 < len(p) {
				j++
				c = p[j] - escape - 1
			}
			sb.WriteByte(c)
		}
		parts[i] = sb.String()
	}
	return parts
}

func stateKey(id record.ID) store.Key {
	return store.Key{Part: key(schema, "record", string(id)), Sort: "state"}
}

// shardPart is one of the partitions that what has no natural partition is spread over.
func shardPart(what string, shard uint32) string {
	return key(schema, what, shardName(shard))
}

// shardName has a fixed width.
func shardName(shard uint32) string {
	return string([]byte{'0' + byte(shard/10), '0' + byte(shard%10)})
}

func logPart(chain string) string { return shardPart("log", shardOf(chain)) }

// chainKey marks the beginning of a chain. It stands right before the chain's entries.
func chainKey(chain string) store.Key { return store.Key{Part: logPart(chain), Sort: key(chain)} }

func logKey(chain string, seq int64) store.Key {
	return store.Key{Part: logPart(chain), Sort: key(chain, fmt.Sprintf("%016x", seq))}
}

func headKey() store.Key { return store.Key{Part: key(schema, "loghead"), Sort: key(General)} }

func claimKey(c Claim) store.Key {
	return store.Key{Part: key(schema, "claim", c.Entity, c.Rule, c.Digest), Sort: "records"}
}

func proposalKey(id string) store.Key {
	return store.Key{Part: key(schema, "proposal"), Sort: key(id)}
}

// instantLayout has a fixed width, so that instants of the years 0 to 9999 sort as text.
const instantLayout = "2006-01-02T15:04:05.000000000Z"

func instant(t time.Time) string { return t.UTC().Format(instantLayout) }

func timerKey(id record.ID, at time.Time) store.Key {
	return store.Key{Part: shardPart("timer", shardOf(string(id))), Sort: key(instant(at), string(id))}
}

func linkKey(r record.Ref) store.Key {
	return store.Key{Part: key(schema, "link", r.Platform, r.Object, r.ID), Sort: "record"}
}

func duePart(platform string, shard uint32) string {
	return key(schema, "due", platform, shardName(shard))
}

func dueKey(platform string, id record.ID) store.Key {
	return store.Key{Part: duePart(platform, shardOf(string(id))), Sort: key(string(id))}
}

func recheckKey(r record.Ref) store.Key {
	return store.Key{Part: shardPart("recheck", shardOf(r.String())), Sort: key(r.Platform, r.Object, r.ID)}
}

func tracePart(trace string) string { return key(schema, "trace", trace) }

func exceptionKey(id string) store.Key {
	return store.Key{Part: key(schema, "exception"), Sort: key(id)}
}

func cursorKey(platform, object string) store.Key {
	return store.Key{Part: key(schema, "cursor"), Sort: key(platform, object)}
}

func operationKey(k OperationKey) store.Key {
	return store.Key{Part: key(schema, "operation", k.kind, k.digest), Sort: "once"}
}

func budgetKey(platform string) store.Key {
	return store.Key{Part: key(schema, "budget", platform), Sort: "state"}
}

func shardOf(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s)) // never fails
	return h.Sum32() % shards
}

// Mint gives a native record the record id that it gets when it is the first of its kind to be seen. It is a
// pure function, so that two workers, or one before and after a crash, mint the same.
func Mint(entity string, r record.Ref) record.ID {
	sum := sha256.Sum256([]byte(key(r.Platform, r.Object, r.ID)))
	return record.ID(entity + "/" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:10])))
}
