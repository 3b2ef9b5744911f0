package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"sorrel/shared/fault"
)

func entriesBucket() []byte { return []byte("entries") }
func expiryBucket() []byte  { return []byte("expiry") }
func metaBucket() []byte    { return []byte("meta") }

// pageSize of a new file. With bolt's usual 4 KB a leaf of 2 KB entries spills over into extents of odd sizes, and 64
// concurrent committers got a third less done (BenchmarkCommit).
const pageSize = 16 << 10

// Options are the choices at Open. The zero value is right for production.
type Options struct {
	// LockWait is how long Open waits for another process to release the file; 0 = one second.
	LockWait time.Duration

	openFile func(string, int, os.FileMode) (*os.File, error) // tests break the disk here
}

// Open opens or creates the store in the file path and judges expiry by now. The folder must exist. Only one
// process can have the file open. Close releases it.
//
// Open reads through the whole file: about 40 ms for 100 MB of 2 KB entries that the kernel has cached.
func Open(path string, now func() time.Time, opts Options) (*Store, error) {
	if opts.LockWait == 0 {
		opts.LockWait = time.Second
	}
	db, err := open(path, opts)
	if err != nil {
		return nil, explain(path, err)
	}
	s := &Store{db: db, path: path, now: now, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go s.run()
	return s, nil
}

// errFormat: the file is sound, but nothing that this package can use.
type errFormat string

func (e errFormat) Error() string { return string(e) }

// errDamaged: reading the file panicked or faulted.
type errDamaged struct{ cause any }

func (e errDamaged) Error() string { return fmt.Sprint("damaged: ", e.cause) }

func open(path string, opts Options) (db *bbolt.DB, err error) {
	// Bolt panics on damaged pages, and reading past the end of a truncated file raises a memory fault.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = errDamaged{p}
		}
	}()

	info, err := os.Stat(path)
	fresh := errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0
	if err != nil && !fresh {
		return nil, err
	}
	if !fresh {
		if fresh, err = inspect(path, opts.LockWait); err != nil {
			return nil, err
		}
	}
	o := &bbolt.Options{
		Timeout:        opts.LockWait,
		NoFreelistSync: true, // see the package comment
		// Finding room in a fragmented array free list costs time linear in its length.
		FreelistType: bbolt.FreelistMapType,
		PageSize:     pageSize,
		NoStatistics: true,
		OpenFile:     opts.openFile,
	}
	if runtime.GOOS == "linux" || runtime.GOOS == "darwin" {
		// Address space, not memory. Growing the map waits for all readers and copies what the open
		// transaction holds, so it should happen rarely.
		o.InitialMmapSize = 1 << 30
	}
	if db, err = bbolt.Open(path, 0o600, o); err != nil {
		return nil, err
	}
	if !fresh {
		return db, nil
	}
	if err := initialise(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, syncFolder(path)
}

// inspect reads every page of an existing file before it is opened for writing. Bolt would do so as well, but in
// a goroutine of its own where a panic ends the process. A file without any bucket is fresh: its first process
// died before it wrote them.
func inspect(path string, lockWait time.Duration) (fresh bool, err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	if err != nil && strings.Contains(err.Error(), "file size too small") {
		return false, errDamaged{err} // it ends before its second meta page; bolt has no error value for that
	}
	if err != nil {
		return false, err
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return errDamaged{fmt.Sprintf("truncated to %d bytes of %d", info.Size(), tx.Size())}
		}
		if first, _ := tx.Cursor().First(); first == nil {
			fresh = true
			return nil
		}
		meta := tx.Bucket(metaBucket())
		if meta == nil || meta.Get([]byte("format")) == nil {
			return errFormat("a bbolt file, but not a Sorrel store")
		}
		if got := meta.Get([]byte("format")); string(got) != format {
			return errFormat(fmt.Sprintf("store format %.40q, this program reads %q", got, format))
		}
		for _, name := range [][]byte{entriesBucket(), expiryBucket()} {
			b := tx.Bucket(name)
			if b == nil {
				return errDamaged{fmt.Sprintf("bucket %q is missing", name)}
			}
			c := b.Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				if string(name) == "entries" && len(v) < recordHead {
					return errDamaged{fmt.Sprintf("a record of %d bytes", len(v))}
				}
			}
		}
		return nil
	})
	return fresh, err
}

// initialise writes the buckets in one transaction: a crash leaves either all of them or none.
func initialise(db *bbolt.DB) error {
	return db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{entriesBucket(), expiryBucket()} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		meta, err := tx.CreateBucketIfNotExists(metaBucket())
		if err != nil {
			return err
		}
		return meta.Put([]byte("format"), []byte(format))
	})
}

// syncFolder makes the new file's name durable, as fsync(2) asks for. Windows has no such call.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// explain says what is wrong with the file and what to do.
func explain(path string, err error) error {
	e := &fault.Error{Class: fault.Down, Op: "boltstore.open", ID: path, Err: err}
	var foreign errFormat
	var damaged errDamaged
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		e.Detail = "another process has the file open"
		e.Remedy = "stop the other process, or give this one a data folder of its own"
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch), errors.As(err, &foreign):
		e.Class = fault.Refused
		e.Detail = "the file is not a store that this program can read"
		e.Remedy = "name another file, or use the program version that wrote it"
	case errors.Is(err, bolterrors.ErrChecksum), errors.As(err, &damaged):
		e.Class = fault.Internal
		e.Detail = "the file is damaged"
		e.Remedy = "restore it from a backup, or move it away to start empty"
	case errors.Is(err, fs.ErrNotExist):
		e.Remedy = "create the folder first"
	default:
		e.Remedy = "check that the file and its folder can be read and written"
	}
	return e
}
