// Package load makes the work of the benchmarks and sends it: sales orders of a made-up shop, posted as our
// SuiteScript kit posts them, about 1.2 KB each and signed.
//
// The work is the same for every peer that is measured: 89 % first sends, 10 % exact repeats of a recent event,
// 1 % with a wrong signature. Every event raises the revision of its order and changes status, total and memo.
// An order is bound to one connection, so its events leave in order.
package load

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"time"
)

// Secret signs the webhooks; a peer gets it as its webhook secret.
const Secret = "bench-webhook-secret-0123456789"

// Headers of the webhook scheme (see shared/netsuite).
const (
	TimestampHeader = "X-Sorrel-Timestamp"
	SignatureHeader = "X-Sorrel-Signature"
)

// Path is where a peer takes the webhooks.
const Path = "/webhooks/netsuite"

// CustomerID is the internal id of the one customer whom all orders belong to.
const CustomerID = "501"

// firstOrder keeps internal ids of orders apart from other ids.
const firstOrder = 100_000

// InternalID is the NetSuite id of order n; order 0 is the forged one, which nobody may ever see.
func InternalID(n int) string { return strconv.Itoa(firstOrder + n) }

// status is NetSuite's letter, Salesforce's label and Zendesk's tag of the status that an order has at a revision.
func status(rev int) (letter byte, label, tag string) {
	switch rev % 3 {
	case 0:
		return 'G', "Billed", "billed"
	case 1:
		return 'B', "Pending Fulfilment", "pending_fulfilment"
	}
	return 'D', "Partially Fulfilled", "partially_fulfilled"
}

// StatusLabel is the status as Salesforce shows it.
func StatusLabel(rev int) string { _, label, _ := status(rev); return label }

// StatusTag is the status as Zendesk shows it.
func StatusTag(rev int) string { _, _, tag := status(rev); return tag }

// Total is the order's total at a revision, with two decimals. It names the revision.
func Total(rev int) string { return strconv.Itoa(BaseTotal+rev) + ".50" }

// BaseTotal is the total of no revision.
const BaseTotal = 1000

// Memo names order and revision, so that a target can tell what it was given.
func Memo(n, rev int) string { return fmt.Sprintf("order %d revision %d.", n, rev) }

// marker is what Memo begins with, as it stands in JSON.
const marker = `"order `

// Mark finds the next memo in a JSON text and returns what follows it; ok is false when there is none.
func Mark(body []byte) (n, rev int, rest []byte, ok bool) {
	i := bytes.Index(body, []byte(marker))
	if i < 0 {
		return 0, 0, nil, false
	}
	rest = body[i+len(marker):]
	n, rest = number(rest)
	var found bool
	if rest, found = bytes.CutPrefix(rest, []byte(" revision ")); !found {
		return 0, 0, nil, false
	}
	rev, rest = number(rest)
	return n, rev, rest, true
}

func number(b []byte) (int, []byte) {
	n := 0
	for len(b) > 0 && b[0] >= '0' && b[0] <= '9' {
		n, b = n*10+int(b[0]-'0'), b[1:]
	}
	return n, b
}

// AppendOrder appends the webhook body of one revision of order n. event is the id of the event.
func AppendOrder(b []byte, n, rev int, event string, at time.Time) []byte {
	letter, _, _ := status(rev)
	b = append(b, `{"id":"`...)
	b = append(b, event...)
	b = append(b, `","type":"record.saved","event":"edit","context":"USERINTERFACE","user":"7","record":{"type":"salesOrder","id":"`...)
	b = strconv.AppendInt(b, int64(firstOrder+n), 10)
	b = append(b, `","externalId":null,"lastModifiedDate":"`...)
	b = at.UTC().AppendFormat(b, time.RFC3339)
	b = append(b, `","createdDate":"2026-11-01T10:00:00Z","rev":`...)
	b = strconv.AppendInt(b, int64(rev), 10)
	b = append(b, `,"fields":{"tranId":"SO-`...)
	b = strconv.AppendInt(b, int64(firstOrder+n), 10)
	b = append(b, `","tranDate":"2026-11-01","entity":{"id":"`+CustomerID+`","refName":"Alfreds Futterkiste"},"otherRefNum":"PO-2026-4711","orderStatus":{"id":"`...)
	b = append(b, letter)
	b = append(b, `"},"currency":{"id":"5","refName":"CHF"},"subtotal":814.5,"taxTotal":62.72,"shippingCost":29.46,"total":`...)
	b = strconv.AppendInt(b, int64(BaseTotal+rev), 10)
	b = append(b, `.50,"memo":"order `...)
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, ` revision `...)
	b = strconv.AppendInt(b, int64(rev), 10)
	return append(b, `.","shipDate":"2026-11-20","shipMethod":{"id":"1","refName":"Speedy Express"},`+
		`"shippingAddress":{"addressee":"Alfreds Futterkiste","addr1":"Obere Str. 57","addr2":null,"city":"Berlin","state":null,"zip":"12209","country":{"id":"DE","refName":"Germany"}},`+
		`"item":{"items":[{"line":1,"item":{"id":"28","refName":"Rössle Sauerkraut"},"description":"Rössle Sauerkraut","quantity":15,"rate":45.6,"amount":684,"quantityFulfilled":0,"quantityBilled":0},`+
		`{"line":2,"item":{"id":"39","refName":"Chartreuse verte"},"description":"Chartreuse verte","quantity":10,"rate":13.05,"amount":130.5,"quantityFulfilled":0,"quantityBilled":0}]}}}}`...)
}

// Customer is the webhook body of the customer.
func Customer(at time.Time) []byte {
	return []byte(`{"id":"customer-1","type":"record.saved","event":"create","context":"USERINTERFACE","user":"7","record":{"type":"customer","id":"` + CustomerID +
		`","externalId":null,"lastModifiedDate":"` + at.UTC().Format(time.RFC3339) + `","createdDate":"2026-01-01T10:00:00Z","rev":1,"fields":{"entityId":"ALFKI","companyName":"Alfreds Futterkiste",` +
		`"email":"maria@example.com","phone":"+49 30 0074321","url":null,"isInactive":false,"currency":{"id":"5","refName":"CHF"},"creditLimit":5000,"addressBook":{"items":[` +
		`{"label":"Berlin","defaultBilling":true,"defaultShipping":true,"addressBookAddress":{"addressee":"Alfreds Futterkiste","addr1":"Obere Str. 57","city":"Berlin","state":null,"zip":"12209","country":"DE"}}]}}}}`)
}

// signer signs bodies; it belongs to one goroutine.
type signer struct {
	mac   hash.Hash
	sum   [sha256.Size]byte
	stamp string
	at    int64
}

func newSigner() *signer { return &signer{mac: hmac.New(sha256.New, []byte(Secret))} }

func (s *signer) time(now time.Time) string {
	if at := now.Unix(); at != s.at {
		s.at, s.stamp = at, now.UTC().Format(time.RFC3339)
	}
	return s.stamp
}

// append appends the signature header's value.
func (s *signer) append(b []byte, stamp string, body []byte) []byte {
	s.mac.Reset()
	s.mac.Write([]byte(stamp))
	s.mac.Write([]byte{'.'})
	s.mac.Write(body)
	b = append(b, "v1="...)
	return hex.AppendEncode(b, s.mac.Sum(s.sum[:0]))
}

// appendRequest appends a whole HTTP request. forged breaks the signature.
func (s *signer) appendRequest(b, body []byte, now time.Time, forged bool) []byte {
	stamp := s.time(now)
	b = append(b, "POST "+Path+" HTTP/1.1\r\nHost: peer\r\nContent-Type: application/json\r\n"+TimestampHeader+": "...)
	b = append(b, stamp...)
	b = append(b, "\r\n"+SignatureHeader+": "...)
	b = s.append(b, stamp, body)
	if forged {
		last := &b[len(b)-1]
		if *last == '0' {
			*last = '1'
		} else {
			*last = '0'
		}
	}
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, body...)
}
