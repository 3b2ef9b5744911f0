package drift

import (
	"fmt"
	"html"
	"io"
	"strings"
	"time"

	"sorrel/shared/flow/reconcile"
)

// Page writes a report as one HTML file: no script, nothing from elsewhere, light or dark as the reader has it. Each plot is an
// image with a title and a description, and its numbers stand in a table beneath.
func Page(w io.Writer, r reconcile.Report) error {
	p := &page{}
	p.head(r)
	p.sets(r.Sets)
	for i, s := range r.Sets {
		p.set(i, s)
	}
	p.add("</main>\n</body>\n</html>\n")
	_, err := io.WriteString(w, p.b.String())
	return err
}

// page gathers HTML by hand: package html/template would keep the linker from leaving out what functions do not use.
// Everything from a report goes through put, which escapes it.
type page struct{ b strings.Builder }

func (p *page) add(markup string) { p.b.WriteString(markup) }

// put formats markup with texts and numbers; the texts are escaped.
func (p *page) put(markup string, values ...any) {
	for i, v := range values {
		if s, ok := v.(string); ok {
			values[i] = html.EscapeString(clean(s))
		}
	}
	fmt.Fprintf(&p.b, markup, values...)
}

const style = `:root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--faint:#59636e;--line:#d1d9e0;--bar:#9aa4af;--drift:#bc4c00;--good:#116329;--doubt:#8a4600;--bad:#a40e26}
@media(prefers-color-scheme:dark){:root{--back:#0d1117;--text:#e6edf3;--faint:#9198a1;--line:#3d444d;--bar:#656c76;--drift:#f0883e;--good:#56d364;--doubt:#e3b341;--bad:#ff7b72}}
body{background:var(--back);color:var(--text);font:16px/1.5 system-ui,sans-serif;margin:0}
main{max-width:60rem;margin:0 auto;padding:1.5rem}
h1{font-size:1.4rem;overflow-wrap:anywhere}h2{font-size:1.15rem;margin-top:2.5rem;border-top:1px solid var(--line);padding-top:1rem}
.verdict{font-weight:600}.good{color:var(--good)}.doubt{color:var(--doubt)}.bad{color:var(--bad)}
.faint,caption{color:var(--faint)}caption{text-align:left}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.9rem;margin:.5rem 0}
th,td{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top}
.n{text-align:right;font-variant-numeric:tabular-nums}code{font-size:.85em;overflow-wrap:anywhere}
svg{width:100%;height:auto;display:block}svg text{fill:var(--faint);font:12px system-ui,sans-serif}
.known{fill:var(--bar)}.drift{fill:var(--drift)}.axis{stroke:var(--line)}
`

func (p *page) head(r reconcile.Report) {
	line, open := verdict(r)
	class := "good"
	switch {
	case r.State == reconcile.Running:
		class = "faint"
	case r.State != reconcile.Done:
		class = "bad"
	case len(open) > 0:
		class = "doubt"
	}
	p.add("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
	p.add("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n")
	p.put("<title>Reconciliation %s</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n", r.ID, raw(style))
	p.put("<h1>Reconciliation %s</h1>\n<p class=\"verdict %s\">%s</p>\n", r.ID, raw(class), line)
	if len(open) > 0 {
		p.add("<ul>\n")
		for _, o := range open {
			p.put("<li>%s</li>\n", o)
		}
		p.add("</ul>\n")
	}
	how := "By counts of modifications"
	if r.Mode == reconcile.Full {
		how = "By reading everything"
	}
	if r.DryRun {
		how += ", as a dry run"
	}
	p.put("<p class=\"faint\">%s, by %s, %s to %s UTC. Policy <code>%s</code>, configuration <code>%s</code>.</p>\n", how, r.By, moment(r.Started, second), moment(r.Ended, second), r.Policy, r.Config)
}

// raw is markup of this package's own.
type raw string

func (p *page) sets(sets []reconcile.Set) {
	if len(sets) == 0 {
		return
	}
	p.add("<div class=\"wide\"><table>\n<caption>What was compared</caption>\n<thead><tr><th scope=\"col\">Platform</th><th scope=\"col\">Object</th>")
	for _, h := range []string{"There", "Here", "Compared", "Equal", "Differ", "Healed", "To people", "Calls", "Of a full read"} {
		p.put("<th scope=\"col\" class=\"n\">%s</th>", h)
	}
	p.add("</tr></thead>\n<tbody>\n")
	row := func(name, object string, s reconcile.Set, found, healed, excepted, calls int) {
		p.put("<tr><th scope=\"row\">%s</th><td>%s</td>", name, object)
		for _, n := range []int{s.There, s.Here, s.Compared, s.Equal, found, healed, excepted, calls} {
			p.put("<td class=\"n\">%s</td>", count(n))
		}
		p.put("<td class=\"n\">%s</td></tr>\n", share(calls, s.FullCalls))
	}
	found, healed, excepted := 0, 0, 0
	for _, s := range sets {
		row(s.Platform, s.Object, s, s.Found(), s.Healed(), s.Excepted(), s.Calls.Sum())
		found, healed, excepted = found+s.Found(), healed+s.Healed(), excepted+s.Excepted()
	}
	all, calls := total(sets)
	row("Together", "", all, found, healed, excepted, calls)
	p.add("</tbody></table></div>\n")
}

func (p *page) set(i int, s reconcile.Set) {
	p.put("<section>\n<h2>%s %s</h2>\n<p class=\"faint\">Entity %s, as of %s UTC.</p>\n", s.Platform, s.Object, s.Entity, moment(s.AsOf, second))
	note := func(class raw, text string) { p.put("<p class=\"%s\">%s</p>\n", class, text) }
	if s.State != reconcile.Done {
		note("bad", strings.TrimSuffix(state(s)+": "+s.Reason, ": "))
	}
	if s.Capped {
		note("doubt", "More differed than may be healed without people: nothing was healed.")
	}
	if s.Unexplained > 0 {
		note("doubt", fmt.Sprintf("Counts still differ by %s after %d rounds.", count(s.Unexplained), s.Rounds))
	}
	p.plot(i, s)
	p.kinds(s)
	if len(s.Exceptions) > 0 {
		p.put("<details><summary>%s for people</summary>\n<ul>\n", exceptions(len(s.Exceptions)))
		for _, e := range s.Exceptions {
			p.put("<li><code>%s</code></li>\n", e)
		}
		p.add("</ul></details>\n")
	}
	if len(s.Limits) > 0 {
		p.add("<p>What this comparison could not have seen:</p>\n<ul>\n")
		for _, l := range s.Limits {
			p.put("<li>%s</li>\n", l)
		}
		p.add("</ul>\n")
	}
	c := s.Calls
	p.put("<p class=\"faint\">Calls: %d counts, %d listings, %d deletions, %d reads. Hash over what Sorrel knew: %s. Over what the platform told: %s.</p>\n</section>\n",
		c.Census, c.List, c.Deleted, c.Read, raw(root(s.Roots.Hub)), raw(root(s.Roots.Platform)))
}

func root(r reconcile.Root) string {
	if r.Hash == "" {
		return "none"
	}
	return fmt.Sprintf("<code>%s</code> (%s records)", html.EscapeString(clean(r.Hash)), count(r.Records))
}

func (p *page) kinds(s reconcile.Set) {
	for _, d := range s.Drift {
		if d.Found == 0 {
			continue
		}
		p.put("<h3>%s %s</h3>\n<p>%s: %s handed to the hub to be healed, %s left to people.</p>\n", count(d.Found), string(d.Kind), meaning(d.Kind), count(d.Healed), count(d.Excepted))
		if len(d.Samples) == 0 {
			continue
		}
		p.put("<div class=\"wide\"><table>\n<caption>%d of %s</caption>\n<thead><tr><th scope=\"col\">Native id</th><th scope=\"col\">Record</th><th scope=\"col\">There</th><th scope=\"col\">Here</th><th scope=\"col\">About</th></tr></thead>\n<tbody>\n", len(d.Samples), count(d.Found))
		for _, x := range d.Samples {
			p.put("<tr><th scope=\"row\"><code>%s</code></th><td><code>%s</code></td><td>%s</td><td>%s</td><td>%s</td></tr>\n",
				x.ID, string(x.Record), named(x.There.At, x.There.Seq), named(x.Here.At, x.Here.Seq), about(x))
		}
		p.add("</tbody></table></div>\n")
	}
}

// The plot: above, how many records were modified last in a bucket; beneath, hanging down, how many of them differ. The two have
// scales of their own, or drift would not be seen.
const (
	plotLeft, plotRight = 70, 790
	plotTop, plotMiddle = 14, 84
	plotBottom, plotEnd = 164, 190
)

func (p *page) plot(i int, s reconcile.Set) {
	from, to := span(s.Buckets)
	if !to.After(from) {
		return
	}
	known, drift, hit := 0, 0, 0
	for _, b := range s.Buckets {
		known, drift = max(known, b.There, b.Here), max(drift, b.Drift)
		if b.Drift > 0 {
			hit++
		}
	}
	about := fmt.Sprintf("Records of %s %s by when they were modified last, from %s to %s: %s of them differ, in %d of %d buckets; at most %s in one.",
		s.Platform, s.Object, moment(from, day), moment(to, day), count(s.Found()), hit, len(s.Buckets), count(drift))
	p.put("<svg viewBox=\"0 0 800 %d\" role=\"img\" aria-labelledby=\"t%d d%d\">\n<title id=\"t%d\">Drift by bucket, %s %s</title>\n<desc id=\"d%d\">%s</desc>\n", plotEnd, i, i, i, s.Platform, s.Object, i, about)
	x := func(at time.Time) float64 {
		return plotLeft + (plotRight-plotLeft)*float64(at.Sub(from))/float64(to.Sub(from))
	}
	bar := func(class raw, b reconcile.Bucket, top, high float64) {
		start, end := b.From, b.To
		if start.IsZero() {
			start = from
		}
		if end.IsZero() {
			end = to
		}
		left := x(start)
		p.put("<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\">", class, min(left, plotRight-1.5), top, max(1.5, x(end)-left-.5), high)
		p.put("<title>%s to %s: %s there, %s here, %s differ</title></rect>\n", moment(b.From, minute), moment(b.To, minute), count(b.There), count(b.Here), count(b.Drift))
	}
	for _, b := range s.Buckets {
		if n := max(b.There, b.Here); n > 0 {
			high := max(1, (plotMiddle-plotTop)*float64(n)/float64(known))
			bar("known", b, plotMiddle-high, high)
		}
		if b.Drift > 0 {
			bar("drift", b, plotMiddle+2, max(2, (plotBottom-plotMiddle-2)*float64(b.Drift)/float64(drift)))
		}
	}
	p.put("<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>\n", plotLeft, plotRight, plotMiddle+1, plotMiddle+1)
	label := func(x, y int, anchor raw, text string) {
		p.put("<text x=\"%d\" y=\"%d\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, text)
	}
	label(plotLeft-8, plotTop+6, "end", count(known))
	label(plotLeft-8, plotTop+22, "end", "records")
	if drift > 0 {
		label(plotLeft-8, plotBottom-12, "end", "differ")
		label(plotLeft-8, plotBottom+4, "end", count(drift))
	}
	label(plotLeft, plotEnd-4, "start", moment(from, day))
	label((plotLeft+plotRight)/2, plotEnd-4, "middle", moment(from.Add(to.Sub(from)/2), day))
	label(plotRight, plotEnd-4, "end", moment(to, day))
	p.add("</svg>\n")
	p.put("<details><summary>The numbers of this plot</summary>\n<div class=\"wide\"><table>\n<caption>%s</caption>\n<thead><tr><th scope=\"col\">From (UTC)</th><th scope=\"col\">To</th><th scope=\"col\" class=\"n\">There</th><th scope=\"col\" class=\"n\">Here</th><th scope=\"col\" class=\"n\">Differ</th></tr></thead>\n<tbody>\n", about)
	for _, b := range s.Buckets {
		p.put("<tr><th scope=\"row\">%s</th><td>%s</td><td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"n\">%s</td></tr>\n", moment(b.From, minute), moment(b.To, minute), count(b.There), count(b.Here), count(b.Drift))
	}
	p.add("</tbody></table></div></details>\n")
}
