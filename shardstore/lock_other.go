//go:build !unix

package shardstore

import (
	"errors"
	"os"
)

var errNoLocks = errors.New("shardstore: Dir is not supported on this system")

// lockDir refuses: without flock two stores could write one journal.
func lockDir(string) (*os.File, error) { return nil, errNoLocks }

// lockToRead refuses as lockDir does.
func lockToRead(string) (unlock func() error, err error) { return nil, errNoLocks }

// lockFile refuses as lockDir does.
func lockFile(*os.File) error { return errNoLocks }
