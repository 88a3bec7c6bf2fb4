//go:build !unix

package shardstore

import (
	"errors"
	"os"
)

// lockDir refuses: without flock two stores could write one journal.
func lockDir(string) (*os.File, error) {
	return nil, errors.New("shardstore: Dir is not supported on this system")
}

// lockToRead refuses as lockDir does.
func lockToRead(dir string) (*os.File, error) { return lockDir(dir) }
