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
	"sorrel/shared/fault"
	"sorrel/shared/flow/load"
	"sorrel/shared/telemetry"
)

type filesCommand struct {
	Load filesLoadCommand `cmd:"" help:"Queue the records of the files in a folder. Each content is taken once; a run that was ended goes on."`
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
	all, err := folder(c.Dir)
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
	out, err := w.Load().Apply(ctx, all, o)
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

// folder lists the files of a folder, without hidden ones.
func folder(dir string) ([]load.File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, "files", dir, err)
	}
	var out []load.File
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, fault.Wrap(fault.NotFound, "files", e.Name(), err)
		}
		out = append(out, load.File{Name: e.Name(), Changed: info.ModTime(), Open: func(context.Context) (io.ReadCloser, error) { return os.Open(filepath.Join(dir, e.Name())) }})
	}
	return out, nil
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
