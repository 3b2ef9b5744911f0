package salesforcetwin

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bulkJob is a query job of Bulk API 2.0. The org works on it while it is looked at twice, and has its result then.
type bulkJob struct {
	id      string
	s       *selection
	deleted bool
	looks   int
	state   string
	header  []string
	lines   [][]string
}

// table is an answer in CSV.
type table struct {
	header http.Header
	body   []byte
}

const (
	uploaded   = "UploadComplete"
	inProgress = "InProgress"
	complete   = "JobComplete"
	aborted    = "Aborted"
)

// jobs answers for query jobs.
// https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/queries.htm
func (t *Twin) jobsResource(c *call) reply {
	if len(c.path) < 2 || c.path[1] != "query" {
		return failed(missing())
	}
	if c.is("POST", "jobs") && len(c.path) == 2 {
		return t.makeJob(c)
	}
	if len(c.path) < 3 {
		return failed(missing())
	}
	i := slices.IndexFunc(t.jobs, func(j *bulkJob) bool { return j.id == c.path[2] })
	if i < 0 {
		return failed(&apiError{status: http.StatusNotFound, code: "NOT_FOUND", message: "The requested resource does not exist"})
	}
	j := t.jobs[i]
	switch {
	case c.is("GET", "jobs") && len(c.path) == 3:
		t.work(j)
		return reply{status: 200, body: j.shown()}
	case c.is("GET", "jobs") && len(c.path) == 4 && c.path[3] == "results":
		return t.results(c, j)
	}
	return failed(missing())
}

func (t *Twin) makeJob(c *call) reply {
	var in struct{ Operation, Query string }
	if err := json.Unmarshal(c.body, &in); err != nil || in.Operation != "query" && in.Operation != "queryAll" {
		return failed(bad("API_ERROR", "operation must be query or queryAll"))
	}
	s, e := t.parse(in.Query)
	if e != nil {
		return failed(e)
	}
	if s.count {
		return failed(bad("API_ERROR", "Aggregate queries are not supported"))
	}
	t.serial++
	j := &bulkJob{id: fullID("750", t.serial), s: s, deleted: in.Operation == "queryAll", state: uploaded}
	t.jobs = append(t.jobs, j)
	return reply{status: 200, body: j.shown()}
}

func (j *bulkJob) shown() map[string]any {
	m := map[string]any{"id": j.id, "operation": "query", "object": j.s.o.name, "state": j.state, "concurrencyMode": "Parallel", "contentType": "CSV", "apiVersion": 66.0, "lineEnding": "LF", "columnDelimiter": "COMMA"}
	if j.state == complete {
		m["numberRecordsProcessed"] = len(j.lines)
	}
	return m
}

// work moves a job on. Its rows come in the order of their ids, which nobody promises.
func (t *Twin) work(j *bulkJob) {
	if j.state == complete || j.state == aborted {
		return
	}
	if j.looks++; j.looks < 2 {
		j.state = inProgress
		return
	}
	j.state = complete
	rows := t.run(j.s, j.deleted)
	slices.SortFunc(rows, func(a, b *row) int {
		return strings.Compare(fmt.Sprint(a.value(j.s.o.field("Id"))), fmt.Sprint(b.value(j.s.o.field("Id"))))
	})
	for _, f := range j.s.fields {
		name := f.field.Name
		if f.via != nil {
			name = f.via.Relationship + "." + name
		}
		j.header = append(j.header, name)
	}
	for _, r := range rows {
		line := make([]string, len(j.s.fields))
		for i, f := range j.s.fields {
			line[i] = cell(f.value(t, r))
		}
		j.lines = append(j.lines, line)
	}
}

// cell is a value in CSV.
func cell(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		if at, err := time.Parse("2006-01-02T15:04:05.000-0700", x); err == nil {
			return at.UTC().Format("2006-01-02T15:04:05.000Z")
		}
	}
	return fmt.Sprint(v)
}

func (t *Twin) results(c *call, j *bulkJob) reply {
	if j.state != complete {
		return failed(bad("INVALIDJOBSTATE", "The job is not complete"))
	}
	from, err := 0, error(nil)
	if text := c.query.Get("locator"); text != "" {
		from, err = strconv.Atoi(strings.TrimPrefix(text, "L"))
	}
	most := len(j.lines)
	if text := c.query.Get("maxRecords"); text != "" && err == nil {
		most, err = strconv.Atoi(text)
	}
	if err != nil || from < 0 || from > len(j.lines) || most < 1 && len(j.lines) > 0 {
		return failed(bad("INVALID_LOCATOR", "locator or maxRecords"))
	}
	end, next := min(from+most, len(j.lines)), "null"
	if end < len(j.lines) {
		next = "L" + strconv.Itoa(end)
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write(j.header) // to a buffer
	_ = w.WriteAll(j.lines[from:end])
	return reply{status: 200, csv: &table{http.Header{"Content-Type": {"text/csv"}, "Sforce-Locator": {next}, "Sforce-NumberOfRecords": {strconv.Itoa(end - from)}}, b.Bytes()}}
}

// ForgetJobs throws all results of jobs away, as seven days do.
func (t *Twin) ForgetJobs() { t.mu.Lock(); t.jobs = nil; t.mu.Unlock() }

// AbortJobs ends all jobs that are worked on, as an administrator does.
func (t *Twin) AbortJobs() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, j := range t.jobs {
		if j.state != complete {
			j.state = aborted
		}
	}
}
