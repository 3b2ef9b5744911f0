package boot

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sorrel/shared/fault"
	"sorrel/shared/flow/load"
)

// FilesPrefix begins the keys of the objects that are taken in, in the bucket for files.
const FilesPrefix = "in/"

// Folder is a folder that files come to. Its folders and hidden files are passed over.
type Folder struct {
	Dir string
	// Settled is for how long a file must have been as it is: one that is still being written is not half a file. Zero for a
	// folder that nobody writes to.
	Settled time.Duration
	// Watched says that the folder is looked at again and again: a file is read once, as long as its size and time stay.
	Watched bool
	Now     func() time.Time
}

// List implements load.Source.
func (f Folder) List(context.Context) ([]load.File, error) {
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, "files", f.Dir, err)
	}
	var out []load.File
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := e.Info()
		if os.IsNotExist(err) {
			continue // it was taken away meanwhile
		}
		if err != nil {
			return nil, fault.Wrap(fault.NotFound, "files", e.Name(), err)
		}
		if f.Settled > 0 && f.Now().Sub(info.ModTime()) < f.Settled && !info.ModTime().After(f.Now()) {
			continue
		}
		path := filepath.Join(f.Dir, e.Name())
		file := load.File{Name: e.Name(), Changed: info.ModTime(), Open: func(context.Context) (io.ReadCloser, error) { return opened(path) }}
		if f.Watched {
			file.Same = fmt.Sprintf("%s %d %d", path, info.Size(), info.ModTime().UnixNano())
		}
		out = append(out, file)
	}
	return out, nil
}

// opened tells a file that was taken away from one that cannot be read.
func opened(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, fault.Wrap(fault.NotFound, "files", path, err)
	}
	if err != nil {
		return nil, err // an *os.File that is nil is no nil reader
	}
	return f, nil
}
