package netsuite

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/platform"
	"sorrel/shared/record"
	"sorrel/shared/vendorhttp"
)

// spansPerQuery bounds the length of a query.
const spansPerQuery = 300

// Census counts records by the time of their last modification, and adds up their internal ids. Buckets are full days and
// hours by the clock that SuiteQL prints (Config.AccountZone): with a zone that changes its clocks, a day may have 23 or 25
// hours, and the hour that is repeated in autumn is one bucket of two hours, because nothing tells its records apart; spans
// that begin or end in it are widened to all of it. A role that may not see a record does not count it: let Sorrel's see all.
func (c *Connector) Census(ctx context.Context, object string, within []platform.Span, width time.Duration) ([]platform.Count, error) {
	const op = "netsuite.census"
	l, err := c.whole("census", object)
	if err != nil {
		return nil, err
	}
	if width != platform.Day && width != platform.Hour && width != 0 {
		return nil, &fault.Error{Class: fault.Contract, Op: op, ID: object, Detail: fmt.Sprintf("buckets of %s cannot be counted", width), Remedy: "ask for days, hours or whole spans"}
	}
	spans, most := platform.Merged(c.widened(within)), spansPerQuery
	if width == 0 {
		spans = platform.Apart(c.widened(within))
	}
	if len(within) == 0 {
		spans = []platform.Span{{}}
	}
	if width == 0 {
		most = 1
	}
	var counts []platform.Count
	for _, chunk := range platform.Bundles(spans, most, func(t time.Time) time.Time { return c.wallClock(t).Truncate(max(width, 1)) }) {
		more, err := c.count(ctx, l, chunk, width)
		if err != nil {
			return nil, fault.Wrap("", op, object, err)
		}
		counts = append(counts, more...)
	}
	slices.SortStableFunc(counts, func(a, b platform.Count) int { return a.From.Compare(b.From) })
	apart := counts[:0]
	for _, n := range counts { // clocks once were put back across midnight: two days then share that hour
		if last := len(apart) - 1; last >= 0 && width > 0 && n.From.Before(apart[last].To) {
			apart[last].Records, apart[last].Sum = apart[last].Records+n.Records, apart[last].Sum+n.Sum
			if n.To.After(apart[last].To) {
				apart[last].To = n.To
			}
			continue
		}
		apart = append(apart, n)
	}
	if len(within) == 0 {
		spans = nil
	}
	return platform.Tally(op, object, spans, apart)
}

// whole returns the layout of an object whose records are rows: lines have no time and no id of their own.
func (c *Connector) whole(op, object string) (layout, error) {
	l, err := c.layoutOf(op, object)
	if err == nil && l.each != "" {
		err = &fault.Error{Class: fault.NotFound, Op: record.NetSuite + "." + op, ID: object, Detail: "its records are lines of others, which are neither counted nor listed by themselves", Remedy: "compare " + l.table}
	}
	return l, err
}

func miscounted(object, detail string) error {
	return &fault.Error{Class: fault.Contract, Op: "netsuite.census", ID: object, Detail: "the answer cannot be used: " + detail, Remedy: "compare without counts: run in full mode"}
}

func (c *Connector) count(ctx context.Context, l layout, spans []platform.Span, width time.Duration) ([]platform.Count, error) {
	format, form := "'YYYY-MM-DD'", time.DateOnly
	if width == platform.Hour {
		format, form = `'YYYY-MM-DD"T"HH24'`, "2006-01-02T15"
	}
	by := "TO_CHAR(" + l.modified.column + ", " + format + ")"
	var counts []platform.Count
	last := ""
	for len(spans) > 0 {
		q := "COUNT(id) AS n, SUM(id) AS s FROM " + l.table + conditions(c.modifiedIn(l, spans))
		if width > 0 {
			q = by + " AS d, " + q + " GROUP BY " + by + " ORDER BY " + by
		}
		rows, more, asked, err := c.query(ctx, "SELECT "+q, rowsAtMost, 0)
		if err != nil {
			return nil, err
		}
		var end time.Time
		for _, r := range rows {
			var n platform.Count
			var errN, errS error
			n.Records, errN = strconv.Atoi(r["n"])
			if n.Sum = 0; r["s"] != "" {
				n.Sum, errS = strconv.ParseInt(r["s"], 10, 64)
			}
			if errN != nil || errS != nil || n.Sum < 0 {
				return nil, miscounted(l.object, fmt.Sprintf("%.40q records with ids of %.40q are no numbers", r["n"], r["s"]))
			}
			if width == 0 {
				n.Span = spans[0]
				counts = append(counts, n)
				continue
			}
			from, err := time.Parse(form, r["d"])
			switch {
			case err != nil:
				return nil, miscounted(l.object, fmt.Sprintf("a bucket is named %.40q", r["d"]))
			case r["d"] <= last:
				return nil, miscounted(l.object, "its buckets are out of order")
			}
			last = r["d"]
			whole := platform.Span{From: c.earliest(from), To: c.latest(from.Add(width))}
			if !asked.IsZero() && whole.From.Sub(asked) > 10*time.Minute {
				return nil, c.ahead(l, r["d"], asked)
			}
			end, n.Span = c.earliest(from.Add(width)), whole.Cut(spans)
			counts = append(counts, n)
		}
		if !more {
			if width == 0 && len(rows) != 1 {
				return nil, miscounted(l.object, "there is no number in it")
			}
			return counts, nil
		}
		if width == 0 {
			return nil, miscounted(l.object, "a single number has more pages")
		}
		spans = platform.Merged(c.widened(platform.After(spans, end)))
	}
	return counts, nil
}

// ahead is the error of a listing that dates records in the future.
func (c *Connector) ahead(l layout, text string, asked time.Time) error {
	return &fault.Error{Class: fault.Contract, Fields: []string{l.modified.column},
		Detail: fmt.Sprintf("changed at %.40s by the clock of %s, which is later than NetSuite's own clock says it is (%s)", text, c.zone, asked.UTC().Format(time.RFC3339)),
		Remedy: "set AccountZone to the zone in which SuiteQL prints times"}
}

func conditions(where []string) string {
	if len(where) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(where, " AND ")
}

// modifiedIn are the conditions for records of l whose last modification is within the spans, as widened gives them; no spans
// are no condition.
func (c *Connector) modifiedIn(l layout, spans []platform.Span) []string {
	var where, parts []string
	if l.where != "" {
		where = append(where, l.where)
	}
	for _, s := range spans {
		var part []string
		if !s.From.IsZero() {
			part = append(part, l.modified.column+" >= "+timestamp(c.wallClock(s.From)))
		}
		if !s.To.IsZero() {
			part = append(part, l.modified.column+" < "+timestamp(c.wallClock(s.To)))
		}
		if len(part) == 0 {
			return where
		}
		parts = append(parts, strings.Join(part, " AND "))
	}
	if len(parts) == 1 {
		return append(where, parts...)
	}
	if len(parts) > 1 {
		where = append(where, "(("+strings.Join(parts, ") OR (")+"))")
	}
	return where
}

// wallClock is what the account's clocks show at t, marked as UTC: SuiteQL knows no zones.
func (c *Connector) wallClock(t time.Time) time.Time {
	_, offset := t.In(c.zone).Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// repeated is the part of time around t in which the account's clocks show each time twice, if t is inside one.
func (c *Connector) repeated(t time.Time) (platform.Span, bool) {
	local := t.In(c.zone)
	start, end := local.ZoneBounds()
	_, now := local.Zone()
	for _, change := range []time.Time{start, end} {
		if change.IsZero() {
			continue
		}
		_, before := change.Add(-1).In(c.zone).Zone()
		_, after := change.In(c.zone).Zone()
		if d := time.Duration(before-after) * time.Second; d > 0 && (now == before || now == after) {
			if s := (platform.Span{From: change.Add(-d), To: change.Add(d)}); t.After(s.From) && t.Before(s.To) {
				return s, true
			}
		}
	}
	return platform.Span{}, false
}

// widened are the spans in whole seconds, and where one begins or ends in a repeated hour, with all of that.
func (c *Connector) widened(spans []platform.Span) []platform.Span {
	up := func(t time.Time) time.Time {
		if t.IsZero() {
			return t
		}
		return t.Add(resolution - 1).UTC().Truncate(resolution)
	}
	out := make([]platform.Span, 0, len(spans))
	for _, s := range spans {
		s.From, s.To = up(s.From), up(s.To)
		if !s.To.IsZero() && !s.From.Before(s.To) {
			continue
		}
		if whole, in := c.repeated(s.From); in && !s.From.IsZero() {
			s.From = whole.From
		}
		if whole, in := c.repeated(s.To); in && !s.To.IsZero() {
			s.To = whole.To
		}
		out = append(out, s)
	}
	return out
}

// earliest is the first moment from which on the account's clocks can show wall or later.
func (c *Connector) earliest(wall time.Time) time.Time { return c.moments(wall)[0] }

// latest is the moment after which the account's clocks show nothing before wall any more.
func (c *Connector) latest(wall time.Time) time.Time {
	all := c.moments(wall)
	last := all[len(all)-1]
	if start, _ := last.In(c.zone).ZoneBounds(); len(all) > 1 && start.Equal(last) { // they are put back to this very time
		return all[0]
	}
	return last
}

// moments are when the account's clocks show wall, or when they skip it.
func (c *Connector) moments(at time.Time) []time.Time {
	all, err := c.instants(at.Format(wall))
	if err != nil { // our own format
		return []time.Time{at}
	}
	if len(all) == 1 && !c.wallClock(all[0]).Equal(at) {
		start, _ := all[0].In(c.zone).ZoneBounds()
		return []time.Time{start.UTC()}
	}
	return all
}

// Within lists records that were modified last within the spans, or all of them, in ascending order of internal id, each
// page in as many calls as one of Changes, and one more for each record that was saved in an hour that clocks repeat: the
// record API tells which of the two it was.
func (c *Connector) Within(ctx context.Context, object string, within []platform.Span, cursor string) (platform.Page, error) {
	const op = "netsuite.within"
	l, err := c.whole("within", object)
	if err != nil {
		return platform.Page{}, err
	}
	at, err := platform.Resume(op, c.cfg.URL, object, "within", within, cursor)
	if err != nil {
		return platform.Page{}, err
	}
	if at.After != "" && !digits(at.After) {
		return platform.Page{}, &fault.Error{Class: fault.Contract, Op: op, ID: object, Fields: []string{"cursor"}, Detail: "it names no row to go on after", Remedy: "start again with an empty one"}
	}
	chunks := slices.Collect(slices.Chunk(platform.Merged(c.widened(within)), spansPerQuery))
	if len(within) == 0 {
		chunks = [][]platform.Span{nil}
	}
	if at.Chunk >= len(chunks) {
		return platform.Page{Cursor: at.String()}, nil
	}
	where := c.modifiedIn(l, chunks[at.Chunk])
	if at.After != "" {
		where = append(where, "id > "+at.After)
	}
	nodes, more, asked, err := c.nodes(ctx, l, where, "id")
	if err != nil {
		return platform.Page{}, fault.Wrap("", op, object, err)
	}
	var page platform.Page
	ids := make([]string, 0, len(nodes))
	for _, n := range nodes {
		native, err := c.listed(l, n, asked)
		if err != nil {
			return platform.Page{}, fault.Wrap(fault.Contract, op, object+"/"+vendorhttp.Clip(n.row["id"], 20), err)
		}
		ids = append(ids, n.row["id"])
		there, dated := true, !native.Hint()
		if !dated {
			if native, there, err = c.dated(ctx, native); err != nil {
				return platform.Page{}, fault.Wrap("", op, object, err)
			}
		}
		switch {
		case !there:
		case len(within) == 0 || platform.Held(within, native.Version.At):
			page.Natives = append(page.Natives, native)
		case dated && !platform.Held(chunks[at.Chunk], native.Version.At):
			return platform.Page{}, &fault.Error{Class: fault.Contract, Op: op, ID: object + "/" + native.ID, Detail: "it is listed and was not asked for", Remedy: "list again"}
		}
	}
	if err := platform.Ascending(op, object, true, at.After, ids); err != nil {
		return platform.Page{}, err
	}
	if more {
		at.After = ids[len(ids)-1]
	} else {
		at.Chunk, at.After = at.Chunk+1, ""
	}
	page.Cursor, page.More = at.String(), at.Chunk < len(chunks)
	return page, nil
}

// dated reads a record whose wall-clock time could be either of two; false if it is not there any more.
func (c *Connector) dated(ctx context.Context, hint record.Native) (record.Native, bool, error) {
	n, err := c.Read(ctx, hint.Ref)
	if fault.Is(err, fault.NotFound) {
		return hint, false, nil
	}
	return n, err == nil, err
}

// Deleted is not told by NetSuite in words that are known, see the package comment: Among says which records are left.
func (c *Connector) Deleted(_ context.Context, object string, _ time.Time, _ string) (platform.Page, error) {
	return platform.Page{}, &fault.Error{Class: fault.NotFound, Op: "netsuite.deleted", ID: object, Detail: "deletions are not listed", Remedy: "ask Among which records are left"}
}

// Among reads records by their internal ids, up to 1,000 in as many calls as a page of Changes. Who is left out is not there
// or hidden from the role.
func (c *Connector) Among(ctx context.Context, object string, ids []string) ([]record.Native, error) {
	const op = "netsuite.among"
	l, err := c.whole("among", object)
	if err != nil {
		return nil, err
	}
	var sound []string
	for _, id := range ids {
		if digits(id) {
			sound = append(sound, strings.TrimLeft(id, "0"))
		}
	}
	slices.Sort(sound)
	sound = slices.DeleteFunc(slices.Compact(sound), func(id string) bool { return id == "" })
	var out []record.Native
	for chunk := range slices.Chunk(sound, min(c.cfg.PageSize, rowsAtMost)) {
		where := append(c.modifiedIn(l, nil), "id IN ("+strings.Join(chunk, ", ")+")")
		nodes, more, asked, err := c.nodes(ctx, l, where, "id")
		if err != nil {
			return nil, fault.Wrap("", op, object, err)
		}
		seen := map[string]bool{}
		for _, n := range nodes {
			native, err := c.listed(l, n, asked)
			if err != nil {
				return nil, fault.Wrap(fault.Contract, op, object+"/"+vendorhttp.Clip(n.row["id"], 20), err)
			}
			if _, wanted := slices.BinarySearch(chunk, native.ID); !wanted || seen[native.ID] || more {
				return nil, &fault.Error{Class: fault.Contract, Op: op, ID: object + "/" + native.ID, Detail: "the answer is about other records", Remedy: "ask again"}
			}
			seen[native.ID] = true
			there := true
			if native.Hint() {
				if native, there, err = c.dated(ctx, native); err != nil {
					return nil, fault.Wrap("", op, object, err)
				}
			}
			if there {
				out = append(out, native)
			}
		}
	}
	return out, nil
}
