package mapping

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"sorrel/shared/contract/source"
	"sorrel/shared/files"
	"sorrel/shared/record"
)

// forms are how a file writes values that are not texts.
type forms struct {
	comma bool
	dates string // Go's layout
}

// path reads a native path. A column of a file may have spaces in its name.
func (l *loader) path(s string) (path, bool) {
	if l.m.Platform != record.Files {
		return parsePath(s)
	}
	var p path
	for _, part := range files.Path(s) {
		p = append(p, segment{key: part})
	}
	return p, s != "" && strings.TrimSpace(s) == s
}

// file reads the block of the platform files: one layout, and one per list, by the list's name.
func (l *loader) file(root source.Node) map[string]files.Layout {
	block := root.Get("file")
	isFile := l.m.Platform == record.Files
	switch {
	case !isFile && block.Kind == source.None:
		return nil
	case !isFile:
		l.ps.Add(block, "only the platform files has a block file", "remove it")
		return nil
	case block.Kind != source.Map:
		l.ps.Add(root.Key("file"), "the files are not described", "write file: {name: customers*.csv, key: column}")
		return nil
	}
	l.forms.comma = l.oneOf(block, "decimal", "point", "comma") == "comma"
	l.forms.dates = l.dates(block, "dates")
	l.m.layouts = []files.Layout{l.layout(block, files.Layout{}, "decimal", "dates", "lists")}
	lists := map[string]files.Layout{}
	for _, e := range block.Get("lists").Entries {
		if e.Value.Kind != source.Map {
			l.ps.Add(e.Value, "list "+e.Key.Text+" is not described", "write it as {name: lines*.csv, key: column}")
			continue
		}
		like := l.m.layouts[0]
		like.Loose, like.External, like.List = "", "", e.Key.Text
		lists[e.Key.Text] = l.layout(e.Value, like, "number")
	}
	return lists
}

// dates reads a form of dates, as Go's layout.
func (l *loader) dates(n source.Node, key string) string {
	s := n.String(l.ps, key, false)
	form := dateForm(s)
	if s != "" && form == "" {
		l.ps.Add(n.Get(key), fmt.Sprintf("%q is no form of dates", s), "write it with YYYY, MM and DD, such as DD.MM.YYYY")
	}
	return form
}

func (l *loader) layout(n source.Node, like files.Layout, more ...string) files.Layout {
	n.Known(l.ps, "a kind of files", append(more, "name", "dated", "format", "encoding", "delimiter", "empty", "loose", "key", "external")...)
	like.Names = nil
	if n.Get("name").Kind == source.Text {
		like.Names = []string{n.String(l.ps, "name", true)}
	} else {
		for _, t := range n.Texts(l.ps, "name") {
			like.Names = append(like.Names, t.Text)
		}
	}
	if len(like.Names) == 0 {
		l.ps.Add(n, "it is not said which files", "add name: customers*.csv")
	}
	for _, p := range like.Names {
		if _, err := filepath.Match(p, ""); err != nil || strings.ContainsAny(p, `/\`) {
			l.ps.Add(n.Get("name"), fmt.Sprintf("%q is no pattern of file names", p), "write it as customers*.csv, without a folder")
		}
	}
	set := func(to *string, value string) {
		if value != "" {
			*to = value
		}
	}
	set(&like.Dated, l.dates(n, "dated"))
	set(&like.Format, l.oneOf(n, "format", files.CSV, files.JSONLines))
	set(&like.Encoding, l.oneOf(n, "encoding", files.Encodings()...))
	set(&like.Delimiter, strings.Replace(l.oneOf(n, "delimiter", ",", ";", "|", "tab"), "tab", "\t", 1))
	set(&like.Loose, n.String(l.ps, "loose", false))
	set(&like.External, n.String(l.ps, "external", false))
	set(&like.Number, n.String(l.ps, "number", false))
	like.Key = n.String(l.ps, "key", true)
	if n.Has("empty") {
		like.Empty = nil
		for _, t := range n.Texts(l.ps, "empty") {
			like.Empty = append(like.Empty, t.Text)
		}
	}
	return like
}

// layOut completes the layouts with the columns that the fields are read from.
func (l *loader) layOut(root source.Node, lists map[string]files.Layout) {
	if len(l.m.layouts) == 0 {
		return
	}
	block := root.Get("file").Get("lists")
	used := map[string]bool{}
	for _, name := range l.m.contract.Names() {
		f := l.m.fields[name]
		if f == nil {
			continue
		}
		list, is := lists[f.native]
		if !is {
			l.m.layouts[0].Columns = append(l.m.layouts[0].Columns, f.native)
			continue
		}
		used[f.native] = true
		table, ok := f.codec.(tableCodec)
		if !ok {
			l.ps.Add(block.Get(f.native), name+" is no table, but a list is read into it", "remove the list, or map a table to it")
			continue
		}
		for _, c := range table.columns {
			if p := c.path.String(); p != list.Number {
				list.Columns = append(list.Columns, p)
			}
		}
		l.m.layouts = append(l.m.layouts, list)
	}
	for _, e := range block.Entries {
		if !used[e.Key.Text] {
			l.ps.Add(e.Key, "no field is read from list "+e.Key.Text, "map a table field to it, or remove the list")
		}
	}
}

// dateForm is Go's layout for a form such as DD.MM.YYYY, or "".
func dateForm(s string) string {
	for _, part := range []string{"YYYY", "MM", "DD"} {
		if strings.Count(s, part) != 1 {
			return ""
		}
	}
	rest := strings.NewReplacer("YYYY", "", "MM", "", "DD", "").Replace(s)
	if strings.ContainsFunc(rest, func(c rune) bool { return !slices.Contains([]rune{'.', '-', '/', ' '}, c) }) {
		return ""
	}
	return strings.NewReplacer("YYYY", "2006", "MM", "01", "DD", "02").Replace(s)
}

// pointed turns a number with a decimal comma into one with a decimal point: 1.234,50 is 1234.50. Points are taken for
// separators of thousands, and only where those stand: 1.23 is refused rather than read as 123.
func pointed(s string) (string, bool) {
	s = strings.TrimSpace(s)
	whole, fraction, some := strings.Cut(s, ",")
	if groups := strings.Split(whole, "."); len(groups) > 1 {
		for i, g := range groups {
			digits := strings.TrimLeft(g, "+-")
			if i > 0 && len(g) != 3 || i == 0 && (len(digits) == 0 || len(digits) > 3) {
				return "", false
			}
		}
		whole = strings.Join(groups, "")
	}
	if strings.ContainsAny(fraction, ".,") {
		return "", false
	}
	if some {
		whole += "." + fraction
	}
	return whole, true
}
