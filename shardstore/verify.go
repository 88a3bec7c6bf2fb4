package shardstore

import (
	"errors"
	"fmt"
	"os"
)

// Verify reads what a store with Options.Dir left in a folder, as New would, changes nothing, and returns how many sessions
// live there. It refuses a folder that is in use.
func Verify(dir string) (sessions int, err error) {
	if _, err := os.Stat(dir); err != nil {
		return 0, fmt.Errorf("shardstore: %w", err)
	}
	unlock, err := lockToRead(dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	opt, err := Options{}.withDefaults()
	if err != nil {
		return 0, err
	}
	s := newStore(opt)
	r := restore{s: s, fs: osFiles{}, dir: dir}
	if _, err := r.load(); err != nil {
		return 0, err
	}
	s.sweep()
	return s.Len(), nil
}
