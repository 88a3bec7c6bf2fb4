package shardstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrNoJournal is Verify's error for a folder in which no store has left anything.
var ErrNoJournal = errors.New("holds no journal")

// Verify reads what a store with Options.Dir left in a folder, as New would, changes nothing, and returns how many sessions
// live there. The folder and its files may be read-only. It refuses a folder that is in use, and one without a journal, which every
// store leaves there, or whose only one is shorter than its head (ErrNoJournal): such a folder is not the one that was meant, or an
// incomplete copy.
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
	r := restore{s: s, fs: readOnlyFiles{}, dir: dir}
	found, err := r.load()
	if err != nil {
		return 0, err
	}
	if found.generation == 0 {
		return 0, fmt.Errorf("shardstore: %s %w: %s is missing", dir, ErrNoJournal, filepath.Base(journalName(dir, 1)))
	}
	// The first journal is cut off: a copy that is not complete, or a crash before its first use. A later one may be so after a crash.
	if found.generation == 1 && found.end < fileHead {
		return 0, fmt.Errorf("shardstore: %s %w: %s has not even the beginning of one", dir, ErrNoJournal, filepath.Base(journalName(dir, 1)))
	}
	s.sweep()
	return s.Len(), nil
}
