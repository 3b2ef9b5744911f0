package durable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"sorrel/shared/fault"
)

// A segment file is a header and frames, all numbers little endian.
//
//	header  magic "SORRELQ1" | number u64 | next message sequence u64 | crc32c u32
//	frame   magic u32 | crc32c u32 | length u32 | durable u32 | record, length bytes
//
// The checksum of a frame also covers the segment's number and the frame's offset, so that a stale or displaced
// frame is not valid. "durable" says how many bytes of the segment were known to be on the disk when the frame was
// written; that is how a torn tail (nothing after it proves that it was ever acknowledged) is told from damage.
const (
	headerSize  = 8 + 8 + 8 + 4
	frameHeader = 16
	frameMagic  = 0x9E51F0A7
	maxRecord   = 8 << 20
)

var errShort = errors.New("record ends early")

// castagnoli returns the table of the checksum that processors compute in hardware; the library keeps one copy.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

type kind byte

const (
	sent     kind = iota + 1 // a message
	copied                   // a message moved here from an older segment, with its state
	received                 // sequences and their receive counts
	deleted                  // sequences
	released                 // sequences and the time until which they stay invisible
	closed                   // nothing; makes everything before it provably durable
)

// record is one decoded frame.
type record struct {
	kind  kind
	msg   stored // sent, copied
	marks []mark // received, deleted, released
}

// stored is a message as the log keeps it.
type stored struct {
	seq       uint64
	sentAt    int64 // Unix nanoseconds, as all times in the log
	receives  uint32
	notBefore int64 // of a delayed release, 0 if none
	group     string
	dedup     string
	body      []byte
}

type mark struct {
	seq   uint64
	value int64 // receives or time
}

// place is where a frame is.
type place struct {
	seg  *segment
	off  uint32
	size uint32
}

// segment is one file of the log. Its fields are guarded by Queue.mu.
type segment struct {
	number  uint64
	path    string
	file    *os.File
	size    int64
	durable int64 // bytes known to be on the disk
	live    int   // messages whose frame is here
	pins    int   // readers at work outside the lock
	gone    bool  // to be closed by the last reader
}

func encodeHeader(number, next uint64) []byte {
	b := append(make([]byte, 0, headerSize), "SORRELQ1"...)
	b = binary.LittleEndian.AppendUint64(b, number)
	b = binary.LittleEndian.AppendUint64(b, next)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

// decodeHeader returns the next message sequence at the time when the segment was begun.
func decodeHeader(data []byte, number uint64) (uint64, error) {
	if len(data) < headerSize {
		return 0, errShort
	}
	next := binary.LittleEndian.Uint64(data[16:])
	if !bytes.Equal(data[:headerSize], encodeHeader(number, next)) {
		return 0, errors.New("header is damaged")
	}
	return next, nil
}

// openFrame reserves a frame header; closeFrame fills it in once the record stands behind it.
func openFrame(buf []byte) []byte { return append(buf, make([]byte, frameHeader)...) }

func closeFrame(buf []byte, start int, number uint64, off, durable int64) {
	h := buf[start:]
	binary.LittleEndian.PutUint32(h, frameMagic)
	binary.LittleEndian.PutUint32(h[8:], uint32(len(h)-frameHeader))
	binary.LittleEndian.PutUint32(h[12:], uint32(durable))
	binary.LittleEndian.PutUint32(h[4:], frameSum(h, number, off))
}

func frameSum(frame []byte, number uint64, off int64) uint32 {
	var at [16]byte
	binary.LittleEndian.PutUint64(at[:], number)
	binary.LittleEndian.PutUint64(at[8:], uint64(off))
	return crc32.Update(crc32.Checksum(at[:], castagnoli()), castagnoli(), frame[8:])
}

// readFrame checks the frame at data[0], which stands at off in its segment, and returns its record, its durable
// mark and its whole size.
func readFrame(data []byte, number uint64, off int64) (rec []byte, durable int64, size int, err error) {
	if len(data) < frameHeader {
		return nil, 0, 0, errShort
	}
	if binary.LittleEndian.Uint32(data) != frameMagic {
		return nil, 0, 0, errors.New("record does not begin with its mark")
	}
	n := binary.LittleEndian.Uint32(data[8:])
	if n > maxRecord {
		return nil, 0, 0, fmt.Errorf("record claims %d bytes", n)
	}
	size = frameHeader + int(n)
	if len(data) < size {
		return nil, 0, 0, errShort
	}
	if frameSum(data[:size], number, off) != binary.LittleEndian.Uint32(data[4:]) {
		return nil, 0, 0, errors.New("record's checksum is wrong")
	}
	return data[frameHeader:size], int64(binary.LittleEndian.Uint32(data[12:])), size, nil
}

func appendMessage(buf []byte, k kind, m *stored) []byte {
	buf = append(buf, byte(k))
	buf = binary.AppendUvarint(buf, m.seq)
	buf = binary.AppendVarint(buf, m.sentAt)
	buf = binary.AppendUvarint(buf, uint64(m.receives))
	buf = binary.AppendVarint(buf, m.notBefore)
	buf = binary.AppendUvarint(buf, uint64(len(m.group)))
	buf = append(buf, m.group...)
	buf = binary.AppendUvarint(buf, uint64(len(m.dedup)))
	buf = append(buf, m.dedup...)
	return append(buf, m.body...)
}

func appendMarks(buf []byte, k kind, marks []mark) []byte {
	buf = append(buf, byte(k))
	for _, m := range marks {
		buf = binary.AppendUvarint(buf, m.seq)
		if k != deleted {
			buf = binary.AppendVarint(buf, m.value)
		}
	}
	return buf
}

// decode parses a record. A message's body aliases b.
func decode(b []byte) (record, error) {
	if len(b) == 0 {
		return record{}, errShort
	}
	rec := record{kind: kind(b[0])}
	d := decoder{b: b[1:]}
	switch rec.kind {
	case sent, copied:
		m := &rec.msg
		m.seq, m.sentAt = d.uvarint(), d.varint()
		m.receives, m.notBefore = uint32(d.uvarint()), d.varint()
		m.group, m.dedup = d.text(), d.text()
		m.body = d.b
	case received, released, deleted:
		for len(d.b) > 0 && !d.bad {
			m := mark{seq: d.uvarint()}
			if rec.kind != deleted {
				m.value = d.varint()
			}
			rec.marks = append(rec.marks, m)
		}
	case closed:
	default:
		return record{}, fmt.Errorf("record is of unknown kind %d", b[0])
	}
	if d.bad {
		return record{}, errShort
	}
	return rec, nil
}

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	d.skip(n)
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	d.skip(n)
	return v
}

func (d *decoder) skip(n int) {
	if n <= 0 {
		d.bad, d.b = true, nil
		return
	}
	d.b = d.b[n:]
}

func (d *decoder) text() string {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return ""
	}
	v := string(d.b[:n])
	d.b = d.b[n:]
	return v
}

// scan visits the records of a whole segment. It returns where the good part ends and, if that is not the end of
// data, what is wrong there. An error of visit is returned as it is.
func scan(data []byte, number uint64, visit func(off, size int64, rec record) error) (end int64, broken error) {
	off := int64(headerSize)
	for off < int64(len(data)) {
		b, _, size, err := readFrame(data[off:], number, off)
		if err != nil {
			return off, err
		}
		rec, err := decode(b)
		if err != nil {
			return off, err
		}
		if err := visit(off, int64(size), rec); err != nil {
			return off, err
		}
		off += int64(size)
	}
	return off, nil
}

// provenDurable reports whether a valid frame after bad says that bad was already on the disk: then bad is damage
// and not a torn tail.
func provenDurable(data []byte, number uint64, bad int64) bool {
	magic := binary.LittleEndian.AppendUint32(nil, frameMagic)
	for off := bad + 1; off < int64(len(data)); off++ {
		i := bytes.Index(data[off:], magic)
		if i < 0 {
			return false
		}
		off += int64(i)
		if _, durable, _, err := readFrame(data[off:], number, off); err == nil && durable > bad {
			return true
		}
	}
	return false
}

// damaged is the error of a log that cannot be trusted.
func damaged(path string, off int64, why error) error {
	return &fault.Error{Class: fault.Internal, Op: "durable", ID: path, Detail: fmt.Sprintf("queue file is damaged at offset %d", off), Err: why,
		Remedy: "check the disk; restore the queue's folder from a copy, or move it away and let the sweep wake what is due"}
}
