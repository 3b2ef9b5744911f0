package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"sorrel/shared/telemetry"
)

// screen is where a person reads. Colours are used on a terminal only; nothing is wider than 80 columns unless
// a value is.
type screen struct {
	out, err io.Writer
	colour   bool
}

func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == ""
}

func (s screen) printf(format string, a ...any) { fmt.Fprintf(s.out, format, a...) }

func (s screen) json(v any) error {
	enc := json.NewEncoder(s.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// report shows what a command measured, for machines or for people, and passes on how that ended.
func (s screen) report(r interface{ Print(io.Writer) error }, asJSON bool, err error) error {
	if asJSON {
		return errors.Join(s.json(r), err)
	}
	return errors.Join(r.Print(s.out), err)
}

func (s screen) fail(err error) int {
	fmt.Fprintln(s.err, s.paint(red, "sorrel: ")+err.Error())
	return 1
}

func (s screen) usage(err error) int {
	fmt.Fprintln(s.err, "sorrel: "+err.Error()+" (see sorrel --help)")
	return 2
}

const (
	red   = "31"
	green = "32"
	amber = "33"
	faint = "2"
	bold  = "1"
)

func (s screen) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// table prints rows under a header in columns as wide as their widest cell; the last column takes the rest and
// is cut at 80 columns.
func (s screen) table(header []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	const width = 80
	widths := make([]int, len(header))
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	line := func(row []string) string {
		var sb strings.Builder
		used := 0
		for i, cell := range row {
			if i == len(row)-1 {
				sb.WriteString(cut(cell, max(width-used, 12)))
				break
			}
			sb.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			used += widths[i] + 2
		}
		return strings.TrimRight(sb.String(), " ")
	}
	s.printf("%s\n", s.paint(bold, line(header)))
	for _, row := range rows {
		s.printf("%s\n", line(row))
	}
}

func cut(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}

// narrate tells one event in one line.
func (s screen) narrate(e telemetry.Event) {
	colour, ok := map[string]string{"written": green, "refused": red, "failed": red, "held": amber, "kept-due": amber, "parked": amber, "to-be-put-back": amber}[e.Step]
	if !ok {
		colour = faint
	}
	step := e.Step
	if step == "to-be-put-back" {
		step = "revert"
	}
	detail := strings.Join(e.Fields, " ")
	if len(e.Fields) > 2 {
		detail = fmt.Sprintf("%d fields", len(e.Fields))
	}
	if e.Detail != "" {
		detail = strings.TrimSpace(detail + " " + e.Detail)
	}
	if e.Err != nil && e.Step != "kept-due" && e.Step != "refused" {
		detail = strings.TrimSpace(detail + " " + e.Err.Error())
	}
	trace := e.Trace
	if len(trace) > 8 {
		trace = "…" + trace[len(trace)-7:] // ULIDs differ at their ends
	}
	// A native record is named without its platform, which stands before it.
	about := cut(strings.TrimPrefix(e.Record, e.Platform+"/"), 25)
	s.printf(" %s %s %-10s %-25s %s\n", s.paint(faint, e.At.Format("05.000")+" "+fmt.Sprintf("%-8s", trace)),
		s.paint(colour, fmt.Sprintf("%-8s", cut(step, 8))), e.Platform, about, cut(detail, 17))
}
