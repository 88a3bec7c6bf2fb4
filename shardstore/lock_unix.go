//go:build unix

package shardstore

import (
	"fmt"
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
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("shardstore: %s: %w: %w", dir, ErrInUse, err)
	}
	return f, nil
}
