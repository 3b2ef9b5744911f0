package durable

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"sort"

	"sorrel/shared/queue"
)

// key stands for a dedup id; 128 bits of SHA-256 do not collide.
type key [16]byte

func keyOf(dedup string) key {
	sum := sha256.Sum256([]byte(dedup))
	return key(sum[:16])
}

// seen is one accepted send.
type seen struct {
	key     key
	at      int64
	segment uint64 // whose file, or whose .seen file, remembers it
}

// window knows the dedup ids of the last DedupWindow, at about 75 bytes each. Guarded by Queue.mu.
type window struct {
	at    map[key]int64
	order []seen // in order of sending, hence of segments
	head  int
}

func (w *window) has(k key, now int64) bool {
	at, ok := w.at[k]
	return ok && now < at+int64(queue.DedupWindow)
}

func (w *window) add(s seen) {
	w.at[s.key] = s.at
	w.order = append(w.order, s)
}

// undo forgets the last n sends.
func (w *window) undo(n int) {
	for _, s := range w.order[len(w.order)-n:] {
		delete(w.at, s.key)
	}
	w.order = w.order[:len(w.order)-n]
}

func (w *window) expire(now int64) {
	for w.head < len(w.order) && w.order[w.head].at+int64(queue.DedupWindow) <= now {
		if s := w.order[w.head]; w.at[s.key] == s.at {
			delete(w.at, s.key)
		}
		w.head++
	}
	if w.head > len(w.order)/2 {
		w.order = append([]seen(nil), w.order[w.head:]...)
		w.head = 0
	}
}

// of returns the sends that only the given segment's file remembers.
func (w *window) of(segment uint64) []seen {
	live := w.order[w.head:]
	from := sort.Search(len(live), func(i int) bool { return live[i].segment >= segment })
	to := sort.Search(len(live), func(i int) bool { return live[i].segment > segment })
	return live[from:to]
}

// A .seen file takes the place of a removed segment until its sends leave the window: pairs of key and time, crc32c.

func encodeSeen(list []seen) []byte {
	b := make([]byte, 0, len(list)*24+4)
	for _, s := range list {
		b = append(b, s.key[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(s.at))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

func decodeSeen(b []byte, segment uint64) ([]seen, error) {
	n := len(b) - 4
	if n < 0 || n%24 != 0 || crc32.Checksum(b[:n], castagnoli()) != binary.LittleEndian.Uint32(b[n:]) {
		return nil, errors.New("checksum is wrong")
	}
	var list []seen
	for ; n > 0; n -= 24 {
		list = append(list, seen{key(b[:16]), int64(binary.LittleEndian.Uint64(b[16:])), segment})
		b = b[24:]
	}
	return list, nil
}
