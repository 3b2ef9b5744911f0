package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sorrel/shared/boot"
	"sorrel/shared/cloud/cliconfig"
	"sorrel/shared/fault"
	"sorrel/shared/files"
	"sorrel/shared/flow/export"
	"sorrel/shared/flow/load"
	"sorrel/shared/policy"
	"sorrel/shared/telemetry"
)

type filesCommand struct {
	Load   filesLoadCommand   `cmd:"" help:"Queue the records of the files in a folder. Each content is taken once; a run that was ended goes on."`
	Export filesExportCommand `cmd:"" help:"Write the records of an entity to a file that load would read back as they are."`
}

type filesLoadCommand struct {
	Dir         string `arg:"" help:"Folder with the files; the mappings of the platform files say which of them are meant." type:"existingdir"`
	DryRun      bool   `help:"Read the files and tell what is wrong with them, but queue nothing."`
	JSON        bool   `help:"Print JSON."`
	Quiet       bool   `help:"No progress on standard error."`
	Config      string `help:"Folder with policy, mapping and contract; default is the embedded configuration." type:"existingdir"`
	Data        string `default:".sorrel" help:"Folder of the durable store that sorrel dev uses. No other process may have it open."`
	EndpointURL string `name:"endpoint-url" help:"Use the DynamoDB and SQS adapters at this AWS-compatible endpoint instead of files; see sorrel dev."`
}

// Run fails when a file is refused. Broken rows are exceptions, and no failure.
func (c filesLoadCommand) Run(ctx binding, s screen) (err error) {
	set, err := boot.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.Data); errors.Is(err, os.ErrNotExist) && c.DryRun { // it must not leave a store behind
		if c.Data, err = os.MkdirTemp("", "sorrel-files-"); err != nil {
			return fault.Wrap(fault.Refused, "files", "", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(c.Data)) }()
	}
	w, err := devCommand{Data: c.Data, EndpointURL: c.EndpointURL}.world(ctx, set, nil, func(now func() time.Time) *telemetry.Recorder { return telemetry.New(nil, now, nil) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	o := load.Options{DryRun: c.DryRun}
	if !c.Quiet {
		o.Progress = s.loading(time.Now)
	}
	out, err := w.Load().Run(ctx, boot.Folder{Dir: c.Dir}, o)
	if c.JSON {
		if out == nil {
			out = []load.Loaded{}
		}
		err = errors.Join(err, s.json(out))
	} else {
		s.loaded(out)
	}
	refused := 0
	for _, l := range out {
		if l.Status == load.Refused {
			refused++
		}
	}
	if refused > 0 {
		err = errors.Join(err, fmt.Errorf("%d file(s) refused", refused))
	}
	return err
}

type filesExportCommand struct {
	Entity      string `arg:"" help:"The entity; a mapping of the platform files says what its file looks like."`
	To          string `required:"" help:"The file, which is replaced only when all is written; - for standard output."`
	List        string `help:"Write the rows of this list of the mapping instead of the records."`
	Format      string `help:"csv or jsonl; default is by the file's ending." enum:",csv,jsonl" default:""`
	JSON        bool   `help:"Print JSON."`
	Quiet       bool   `help:"No progress on standard error."`
	Config      string `help:"Folder with policy, mapping and contract; default is the embedded configuration." type:"existingdir"`
	Data        string `default:".sorrel" help:"Folder of the durable store that sorrel dev uses. No other process may have it open." type:"existingdir"`
	EndpointURL string `name:"endpoint-url" help:"Use the DynamoDB and SQS adapters at this AWS-compatible endpoint instead of files; see sorrel dev."`
	Table       string `help:"Read a deployed stack instead: the name of its DynamoDB table." group:"A deployed stack"`
	Profile     string `help:"AWS profile." group:"A deployed stack"`
	Region      string `help:"AWS region." group:"A deployed stack"`
}

// Run fails when a record had to be left out; the others are in the file.
func (c filesExportCommand) Run(ctx binding, s screen) (err error) {
	set, err := boot.LoadConfig(c.Config)
	if err != nil {
		return err
	}
	w, err := c.world(ctx, set)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	beside := ""
	if c.To != "-" {
		beside = filepath.Dir(c.To)
	}
	aside, err := os.MkdirTemp(beside, ".sorrel-export-") // readable by nobody else, and on the same disk as the file
	if err != nil {
		return fault.Wrap(fault.Refused, "files", c.To, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(aside)) }()
	var opened []io.Closer
	defer func() {
		for _, f := range opened {
			_ = f.Close() // what they hold is thrown away
		}
	}()
	o := export.Options{Entity: c.Entity, List: c.List, Format: c.Format, Scratch: func() (export.Scratch, error) {
		f, err := os.Create(filepath.Join(aside, "rows"))
		opened = append(opened, f)
		return f, fault.Wrap(fault.Down, "files", aside, err)
	}}
	if o.Format == "" && c.To != "-" {
		l, err := files.Layout{}.For(c.To)
		if err != nil {
			return err
		}
		o.Format = l.Format
	}
	if !c.Quiet {
		o.Progress = s.exporting(time.Now)
	}
	var out export.Written
	told := s
	if c.To == "-" {
		told.out = s.err
		out, err = w.Export().Apply(ctx, s.out, o)
	} else {
		err = replaced(filepath.Join(aside, "file"), c.To, func(to io.Writer) error { out, err = w.Export().Apply(ctx, to, o); return err })
	}
	if err != nil {
		return err
	}
	if c.JSON {
		err = told.json(out)
	} else {
		told.exported(out)
	}
	if out.Left > 0 {
		err = errors.Join(err, fmt.Errorf("%d record(s) left out", out.Left))
	}
	return err
}

func (c filesExportCommand) world(ctx context.Context, set *policy.Set) (*boot.World, error) {
	if c.Table == "" {
		return devCommand{Data: c.Data, EndpointURL: c.EndpointURL}.world(ctx, set, nil, func(now func() time.Time) *telemetry.Recorder { return telemetry.New(nil, now, nil) })
	}
	account, err := cliconfig.Open(ctx, c.Profile, c.Region, os.Getenv("AWS_ENDPOINT_URL"))
	if err != nil {
		return nil, err
	}
	return boot.Reading(account, c.Table, set)
}

// replaced lets write fill a new file, and puts it in the place of another when it is whole and on the disk.
func replaced(fresh, old string, write func(io.Writer) error) error {
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fault.Wrap(fault.Refused, "files", old, err)
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return fault.Wrap(fault.Refused, "files", old, os.Rename(fresh, old))
}

// exporting tells on standard error how many records were read, at most once a second.
func (s screen) exporting(now func() time.Time) func(export.Written) {
	last := now()
	return func(w export.Written) {
		if now().Sub(last) < time.Second {
			return
		}
		last = now()
		fmt.Fprintf(s.err, "%s: %d records\n", w.Entity, w.Read)
	}
}

func (s screen) exported(w export.Written) {
	s.printf("%d of %d records written, %d have nothing to write, %d left out\n", w.Written, w.Read, w.Empty, w.Left)
	for _, out := range w.Out {
		s.printf("%s: %s %s\n", out.Record, out.Field, out.Detail)
	}
	if more := w.Left - int64(len(w.Out)); more > 0 {
		s.printf("%d more left out\n", more)
	}
}

// loading tells on standard error how far a file is, at most once a second.
func (s screen) loading(now func() time.Time) func(load.Loaded) {
	last := now()
	return func(l load.Loaded) {
		if now().Sub(last) < time.Second {
			return
		}
		last = now()
		fmt.Fprintf(s.err, "%s: %d of %d records\n", l.File, l.Resumed+l.Queued+l.Breaks, l.Records)
	}
}

func (s screen) loaded(all []load.Loaded) {
	var rows [][]string
	for _, l := range all {
		rows = append(rows, []string{l.File, l.Entity, l.Status, strconv.FormatInt(l.Records, 10), strconv.FormatInt(l.Queued, 10), strconv.FormatInt(l.Breaks, 10)})
	}
	s.table([]string{"FILE", "ENTITY", "STATUS", "RECORDS", "QUEUED", "BROKEN"}, rows)
	for _, l := range all {
		if l.Detail != "" {
			s.printf("%s: %s\n", l.File, l.Detail)
		}
		for _, b := range l.Broken {
			s.printf("%s:%d: %s\n", l.File, b.Line, b.Detail)
		}
		if more := l.Breaks - int64(len(l.Broken)); more > 0 {
			s.printf("%s: %d more broken rows\n", l.File, more)
		}
		if len(l.Ignored) > 0 {
			s.printf("%s: columns that nothing reads: %s\n", l.File, strings.Join(l.Ignored, ", "))
		}
	}
}
