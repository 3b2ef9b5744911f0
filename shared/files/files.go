// Package files reads and writes records as CSV (RFC 4180, https://www.rfc-editor.org/rfc/rfc4180) and as JSON Lines
// (https://jsonlines.org), as a Layout says.
//
// A Reader streams: whatever a file holds, it keeps one row of at most MaxRow bytes in memory. A row that is broken is told
// with its line and the others go on; what would make every row doubtful (a header without a needed column, an encoding that
// is not the declared one) ends the file. Nothing is guessed from what the values look like: an encoding is declared, told by
// a byte order mark, or proven to be UTF-8 over the whole file by Inspect.
//
// The shell (which file, when, how often) is flow/load; the meaning of columns is a mapping of the platform "files".
package files

import (
	"path"
	"slices"
	"strings"
	"time"

	"sorrel/shared/fault"
)

// MaxRow bounds one row in bytes, in UTF-8. What is longer is a broken row, however long it is.
const MaxRow = 256 << 10

// Formats of a file.
const (
	CSV       = "csv"
	JSONLines = "jsonl"
)

// Encodings that a layout may declare. UTF16 needs a byte order mark.
const (
	UTF8        = "utf-8"
	UTF16       = "utf-16"
	UTF16LE     = "utf-16le"
	UTF16BE     = "utf-16be"
	Windows1252 = "windows-1252"
)

// Encodings lists them.
func Encodings() []string { return []string{UTF8, UTF16, UTF16LE, UTF16BE, Windows1252} }

// Layout says how one kind of file is laid out. The zero values of its options mean: by the file's ending, UTF-8, the
// delimiter under which the header has all columns.
type Layout struct {
	Names     []string // patterns of file names, such as customers*.csv; see path.Match
	Format    string   // CSV or JSONLines
	Encoding  string
	Delimiter string   // one of , ; | or a tab
	Dated     string   // the form of the date in a file's name that says of when its content is, as package time writes it
	Empty     []string // unquoted texts that mean no value, such as NULL
	Loose     string   // the column whose values may hold unquoted delimiters
	Key       string   // the column whose value names the native record
	External  string   // the column that holds Sorrel's external id, if one does
	Columns   []string // more columns that the header must have
	List      string   // rows with one key are one record, and its rows stand in a list under this name; they stand together
	Number    string   // with List: the member of each row that counts it, from 1
}

// Takes reports whether a file's name, without its folder, is of this kind.
func (l Layout) Takes(name string) bool {
	return slices.ContainsFunc(l.Names, func(p string) bool {
		ok, err := path.Match(p, name)
		return ok && err == nil
	})
}

// AsOf is the time that a file's content is of: when the file was changed, unless its name says the day. Of two files of one day
// the one that was changed later counts more, and never as much as one of the next day.
func (l Layout) AsOf(name string, changed time.Time) (time.Time, error) {
	if l.Dated == "" {
		return changed, nil
	}
	for i := 0; i+len(l.Dated) <= len(name); i++ {
		day, err := time.Parse(l.Dated, name[i:i+len(l.Dated)])
		if err != nil {
			continue
		}
		const whole = 24 * time.Hour
		late := max(0, changed.Sub(day).Seconds())
		return day.Add(time.Duration(float64(whole) * late / (whole.Seconds() + late))), nil
	}
	return changed, &fault.Error{Class: fault.Contract, Op: "files", ID: name, Detail: "the file's name does not say the day that its content is of, such as " + changed.UTC().Format(l.Dated),
		Remedy: "name it so, or remove dated: from the mapping"}
}

// For completes the layout for a file.
func (l Layout) For(name string) (Layout, error) {
	if l.Format != "" {
		return l, nil
	}
	switch strings.ToLower(path.Ext(name)) {
	case ".csv", ".tsv", ".txt":
		l.Format = CSV
	case ".jsonl", ".ndjson":
		l.Format = JSONLines
	default:
		return l, &fault.Error{Class: fault.Malformed, Op: "files", ID: name, Detail: "the file's ending does not tell its format",
			Remedy: "name it .csv, .tsv, .txt, .jsonl or .ndjson, or say format: in the mapping"}
	}
	return l, nil
}

// needed are the columns that the header must have.
func (l Layout) needed() []string {
	out := slices.Clone(l.Columns)
	for _, c := range []string{l.Key, l.Loose} {
		if c != "" {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// cut classifies why a file could not be read on: as its reader says, if it does.
func cut(err error) error {
	c := fault.Down
	if fault.ClassOf(err) != fault.Internal {
		c = ""
	}
	return fault.Wrap(c, "files.read", "", err)
}

// Path is where the value of a column stands in a row's fields: a.b is a member b of a, unless a part has no name.
func Path(column string) []string {
	p := strings.Split(column, ".")
	if slices.Contains(p, "") {
		return []string{column}
	}
	return p
}

// Header are the columns of a CSV that is written: the key, then those that the layout names.
func (l Layout) Header() []string {
	var out []string
	for _, c := range append([]string{l.Key, l.External}, l.Columns...) {
		if c != "" && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// Broken is what is wrong with one row; the rows after it can be read.
type Broken struct {
	Line   int64 // where the row begins, from 1
	Detail string
}

func (b *Broken) Error() string { return b.Detail }

// Row is one row of a file.
type Row struct {
	Line   int64          // where it begins, from 1
	Fields map[string]any // texts or nil of CSV, any JSON with json.Number of JSON Lines; a.b is a member b of a
	Broken *Broken        // then Fields is nil
}
