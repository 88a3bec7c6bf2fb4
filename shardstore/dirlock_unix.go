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

// lockDir makes this process's store the only one on the folder until the file is closed, which the system does for a
// process that dies.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("shardstore: %w", err)
	}
	return f, flock(f, dir)
}

// lockToRead keeps stores off the folder until the file is closed, and changes nothing in it: a lock made by root would keep
// out the server, which is not. Nil: no store was ever opened there.
func lockToRead(dir string) (*os.File, error) {
	f, err := os.Open(filepath.Join(dir, "lock"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("shardstore: %w", err)
	}
	return f, flock(f, dir)
}

// flock locks the file, or closes it.
func flock(f *os.File, dir string) error {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return fmt.Errorf("shardstore: %s: %w: %w", dir, ErrInUse, err)
	}
	return nil
}
