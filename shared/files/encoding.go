package files

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"

	"sorrel/shared/fault"
)

// none stands for what is no character in an encoding.
const none rune = -1

// invalid stands in the decoded stream for what is no character in the file's encoding. It is never part of UTF-8.
const invalid = 0xff

// windows1252 are the bytes 0x80 to 0x9f. Source: https://encoding.spec.whatwg.org/index-windows-1252.txt,
// less the control characters that it puts in the five gaps: there nothing was meant.
func windows1252() [32]rune {
	return [32]rune{0x20ac, none, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, none, 0x017d, none,
		none, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, none, 0x017e, 0x0178}
}

// decoded gives r in UTF-8 without its byte order mark, and the encoding that it is in. certain says that it was declared or
// marked; otherwise it is UTF-8 unless a row shows that it is not.
func decoded(r io.Reader, declared string) (out *bufio.Reader, encoding string, certain bool, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	head, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", false, cut(err)
	}
	marked, size := "", 0
	switch {
	case bytes.HasPrefix(head, []byte{0xef, 0xbb, 0xbf}):
		marked, size = UTF8, 3
	case bytes.HasPrefix(head, []byte{0xff, 0xfe}):
		marked, size = UTF16LE, 2
	case bytes.HasPrefix(head, []byte{0xfe, 0xff}):
		marked, size = UTF16BE, 2
	}
	refuse := func(detail, remedy string) error {
		return &fault.Error{Class: fault.Contract, Op: "files.read", Detail: detail, Remedy: remedy}
	}
	encoding = declared
	switch {
	case marked != "" && (declared == "" || declared == UTF16 && marked != UTF8):
		encoding = marked
	case marked != "" && declared != marked:
		return nil, "", false, refuse(fmt.Sprintf("the file begins with the byte order mark of %s, but %s is declared", marked, declared), "correct encoding: in the mapping")
	case declared == UTF16:
		return nil, "", false, refuse("the file has no byte order mark", "declare encoding: utf-16le or utf-16be")
	case declared == "" && len(head) > 1 && (head[0] == 0 || head[1] == 0):
		return nil, "", false, refuse("the file looks like UTF-16 without a byte order mark", "declare encoding: utf-16le or utf-16be")
	case declared == "":
		encoding = UTF8
	}
	certain = declared != "" || marked != ""
	if _, err := in.Discard(size); err != nil {
		return nil, "", false, cut(err)
	}
	switch encoding {
	case UTF16LE, UTF16BE:
		u := &utf16Reader{in: in, big: encoding == UTF16BE}
		return bufio.NewReaderSize(&transcoder{in: in, next: u.character}, 64<<10), encoding, certain, nil
	case Windows1252:
		high := windows1252()
		one := func() (rune, error) {
			b, err := in.ReadByte()
			if b < 0x80 || b >= 0xa0 || err != nil {
				return rune(b), err
			}
			return high[b-0x80], nil
		}
		return bufio.NewReaderSize(&transcoder{in: in, next: one}, 64<<10), encoding, certain, nil
	}
	return in, encoding, certain, nil
}

// transcoder gives characters as UTF-8.
type transcoder struct {
	in   *bufio.Reader
	next func() (rune, error) // may be none
	buf  [utf8.UTFMax]byte
	left []byte
}

// Read implements io.Reader.
func (t *transcoder) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(t.left) == 0 {
			c, err := t.next()
			if err != nil {
				return n, err
			}
			if t.left = utf8.AppendRune(t.buf[:0], c); c == none {
				t.left = append(t.buf[:0], invalid)
			}
		}
		k := copy(p[n:], t.left)
		n, t.left = n+k, t.left[k:]
		if len(t.left) == 0 && t.in.Buffered() < 4 {
			break
		}
	}
	return n, nil
}

// utf16Reader decodes UTF-16.
type utf16Reader struct {
	in   *bufio.Reader
	big  bool
	next rune // a unit that was read too far, plus one
}

func (r *utf16Reader) unit() (rune, error) {
	if r.next != 0 {
		c := r.next - 1
		r.next = 0
		return c, nil
	}
	a, err := r.in.ReadByte()
	if err != nil {
		return 0, err
	}
	b, err := r.in.ReadByte()
	if errors.Is(err, io.EOF) {
		return 0xdc00, nil // half a unit is as wrong as half a pair
	}
	if r.big {
		a, b = b, a
	}
	return rune(a) | rune(b)<<8, err
}

func (r *utf16Reader) character() (rune, error) {
	c, err := r.unit()
	if err != nil || !utf16.IsSurrogate(c) {
		return c, err
	}
	low, err := r.unit()
	if errors.Is(err, io.EOF) {
		return none, nil
	}
	if err != nil {
		return 0, err
	}
	if pair := utf16.DecodeRune(c, low); pair != utf8.RuneError { // which no pair stands for
		return pair, nil
	}
	r.next = low + 1
	return none, nil
}

// encoded appends s in an encoding, and reports the first character that it does not have.
func encoded(b []byte, s, encoding string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return b, fault.New(fault.Malformed, "files.write", "a text is not valid UTF-8")
	}
	switch encoding {
	case UTF16, UTF16LE, UTF16BE:
		for _, u := range utf16.Encode([]rune(s)) {
			if encoding == UTF16BE {
				b = append(b, byte(u>>8), byte(u))
			} else {
				b = append(b, byte(u), byte(u>>8))
			}
		}
	case Windows1252:
		high := windows1252()
	next:
		for _, c := range s {
			if c < 0x80 || c >= 0xa0 && c <= 0xff {
				b = append(b, byte(c))
				continue
			}
			for i, h := range high {
				if h == c {
					b = append(b, byte(0x80+i))
					continue next
				}
			}
			return b, &fault.Error{Class: fault.Contract, Op: "files.write", Detail: fmt.Sprintf("%s has no character %U", encoding, c), Remedy: "declare encoding: utf-8 in the mapping"}
		}
	default:
		b = append(b, s...)
	}
	return b, nil
}
