package boltstore

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"sorrel/shared/store"
)

// On disk (format 1). One bolt key per entry, in one bucket:
//
//	entries:  esc(part) 00 01 sort              -> rev(8) expires(8) value
//	expiry:   expires(8) esc(part) 00 01 sort   -> (empty)
//	meta:     "format"                          -> "sorrel-store/1"
//
// esc writes each 0x00 of part as 00 FF, so that the terminator 00 01 can not occur inside, no encoded part is
// a prefix of another, and byte order within a partition is the byte order of sort. Integers are big endian.
// expires is in Unix seconds, 0 = never. The sequence of the bucket "entries" is the last revision given out.
//
// A row of "expiry" is a hint, written with each expiring put and not removed when the entry changes: Expire looks at
// the entry before it removes anything.
const (
	recordHead = 16
	format     = "sorrel-store/1"
)

// prefix returns the encoded part with its terminator.
func prefix(part string) []byte {
	b := make([]byte, 0, len(part)+2+store.MaxSort/8)
	for {
		i := strings.IndexByte(part, 0)
		if i < 0 {
			break
		}
		b = append(append(b, part[:i]...), 0x00, 0xff)
		part = part[i+1:]
	}
	return append(append(b, part...), 0x00, 0x01)
}

func encodeKey(k store.Key) []byte { return append(prefix(k.Part), k.Sort...) }

// bounds returns the encoded half-open interval [lo, hi) of one Range.
func bounds(part, from, to string) (lo, hi []byte) {
	p := prefix(part)
	lo = slices.Concat(p, []byte(from))
	hi = slices.Concat(p, []byte(to))
	if to == "" {
		hi[len(hi)-1]++ // 00 01 -> 00 02: behind every sort of this part, before any other part
	}
	return lo, hi
}

func encodeRecord(op store.Op) []byte {
	b := make([]byte, recordHead, recordHead+len(op.Value))
	binary.BigEndian.PutUint64(b[8:], expirySeconds(op.Expires))
	return append(b, op.Value...)
}

// expirySeconds keeps times before 1970 apart from never: they are expired under any clock Sorrel runs with.
func expirySeconds(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(max(t.Unix(), 1))
}

// record is a view into bolt's memory: valid only inside its transaction.
type record []byte

func (r record) rev() uint64   { return binary.BigEndian.Uint64(r) }
func (r record) value() []byte { return r[recordHead:] }

func (r record) expires() time.Time {
	s := binary.BigEndian.Uint64(r[8:])
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(int64(s), 0).UTC()
}

// live reports whether r exists and has not expired.
func (r record) live(now time.Time) bool {
	return len(r) >= recordHead && !store.Expired(r.expires(), now)
}
