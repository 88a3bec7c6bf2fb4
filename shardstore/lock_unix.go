//go:build unix

package shardstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// lockDir locks the file "lock" of the folder until the returned file is closed, which the system does for a process that
// dies. Earlier releases know this lock only; it does not hold once the file was removed, so every journal is locked too.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("shardstore: %w", err)
	}
	return f, lockOrClose(f)
}

// lockToRead keeps stores off the folder until unlock is called, and changes nothing in the folder: a lock file that root
// made would keep out the server, which is not root.
func lockToRead(dir string) (unlock func() error, err error) {
	var locked []*os.File
	unlock = func() error {
		var errs []error
		for _, f := range locked {
			errs = append(errs, f.Close())
		}
		return errors.Join(errs...)
	}
	names, err := osFiles{}.list(dir)
	if err != nil {
		return nil, fmt.Errorf("shardstore: %w", err)
	}
	for _, name := range names {
		if _, journal := generationOf(name, journalPrefix); !journal && name != "lock" {
			continue
		}
		f, err := openToRead(filepath.Join(dir, filepath.Base(name)))
		switch {
		case errors.Is(err, fs.ErrNotExist): // a store has just replaced this journal, and holds another
			continue
		case err != nil:
			return nil, errors.Join(fmt.Errorf("shardstore: %w", err), unlock())
		}
		if err := lockOrClose(f); err != nil {
			return nil, errors.Join(err, unlock())
		}
		locked = append(locked, f)
	}
	return unlock, nil
}

func lockOrClose(f *os.File) error {
	err := lockFile(f)
	if err != nil {
		_ = f.Close() // nothing was written
	}
	return err
}

// lockFile locks the file until it is closed. ErrInUse means that this process or another one has locked it already.
func lockFile(f *os.File) error {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("shardstore: %s: %w: %w", filepath.Dir(f.Name()), ErrInUse, err)
	}
	return nil
}
