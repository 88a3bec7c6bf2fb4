package shardstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// fileSystem is what the journal and the snapshots need of the operating system, so that a test can use one that is full or
// loses what was not synced. Names are whole paths.
type fileSystem interface {
	// open opens a file for reading and writing; with create the file must not exist yet. Its mode is 0600.
	open(name string, create bool) (file, error)
	rename(from, to string) error
	remove(name string) error // a missing file is no error
	list(dir string) ([]string, error)
	// syncDir makes every name that was created, changed or removed in the folder survive a power cut.
	syncDir(dir string) error
}

type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
	size() (int64, error)
	// lock locks the file until it is closed. ErrInUse means that it is locked already.
	lock() error
}

// osFiles is the operating system's fileSystem.
type osFiles struct{}

type osFile struct{ *os.File }

func (f osFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) lock() error { return lockFile(f.File) }

func (osFiles) open(name string, create bool) (file, error) {
	flag := os.O_RDWR
	if create {
		flag |= os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(filepath.Clean(name), flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// readOnlyFiles is osFiles for who only reads: it opens files, and makes none, where nothing may be written.
type readOnlyFiles struct{ osFiles }

func (readOnlyFiles) open(name string, _ bool) (file, error) {
	f, err := openToRead(name)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// openToRead refuses what is no file: opening a named pipe would wait for a writer.
func openToRead(name string) (*os.File, error) {
	name = filepath.Clean(name)
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", name)
	}
	return os.Open(name)
}

func (osFiles) rename(from, to string) error { return os.Rename(from, to) }

func (osFiles) remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (osFiles) list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (osFiles) syncDir(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
