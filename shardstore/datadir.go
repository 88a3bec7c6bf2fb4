package shardstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// disk is what a store with Options.Dir has beside its memory.
type disk struct {
	fs             fileSystem
	dir            string
	lock           *os.File
	journal        *journal
	syncEachAnswer bool
	syncEvery      time.Duration
	limit          int64 // how long the journal grows before a snapshot is due

	snapshots     sync.Mutex   // held while a snapshot is taken, because all snapshots use one temporary file
	snapshotBytes atomic.Int64 // of the last snapshot; written by snapshot
	snapshotAt    atomic.Int64 // Unix milliseconds; written by snapshot
}

// ErrInUse means that another store, of this process or another one, uses the folder.
var ErrInUse = errors.New("in use by another store")

var errStopped = errors.New("shardstore: the store is closed")

// openDisk locks the folder, reads it and goes on with its last journal.
func (s *Store) openDisk(opt Options) error {
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return fmt.Errorf("shardstore: %w", err)
	}
	lock, err := lockDir(opt.Dir)
	if err != nil {
		return err
	}
	s.disk = &disk{
		fs: opt.files, dir: opt.Dir, lock: lock, limit: opt.SnapshotBytes,
		syncEachAnswer: opt.FsyncEvery < 0, syncEvery: opt.FsyncEvery,
	}
	if err := s.reopen(); err != nil {
		_ = lock.Close() // nothing was written to it
		return err
	}
	for i := range s.shards {
		s.shards[i].frame.journal = s.disk.journal
	}
	s.sweep() // what was read and has expired
	return nil
}

func (s *Store) reopen() (err error) {
	d := s.disk
	journals, err := lockJournals(d.fs, d.dir)
	if err != nil {
		return err
	}
	defer func() {
		if d.journal != nil { // the journal continues the last file
			journals = journals[:max(0, len(journals)-1)]
		}
		for _, f := range journals {
			_ = f.Close() // the files were only read
		}
	}()
	r := restore{s: s, fs: d.fs, dir: d.dir}
	found, err := r.load()
	if err != nil {
		return err
	}
	for _, name := range found.obsolete {
		if err := d.fs.remove(filepath.Join(d.dir, name)); err != nil {
			return fmt.Errorf("shardstore: %w", err)
		}
	}
	for _, torn := range found.torn {
		if err := cutOff(d.fs, torn); err != nil {
			return fmt.Errorf("shardstore: %w", err)
		}
	}
	// The last store may have been killed before it synced what was read. The next D says that all of it was synced.
	for _, f := range journals {
		if err := f.Sync(); err != nil {
			return fmt.Errorf("shardstore: %w", err)
		}
	}
	d.snapshotBytes.Store(found.snapshot)
	var last file
	if len(journals) > 0 {
		last = journals[len(journals)-1]
	}
	d.journal, err = continueJournal(d.fs, d.dir, found, last)
	return err
}

// lockJournals locks every journal of the folder, oldest first, and returns them. A store keeps its current journal locked
// for as long as it runs, and locks the next one before it unlocks that. So no other store uses the folder if all journals
// could be locked and none was added since.
func lockJournals(fs fileSystem, dir string) (locked []file, err error) {
	defer func() {
		if err != nil {
			for _, f := range locked {
				_ = f.Close() // nothing was written
			}
			locked = nil
		}
	}()
	generations, err := journalsIn(fs, dir)
	if err != nil {
		return nil, err
	}
	for _, g := range generations {
		f, err := fs.open(journalName(dir, g), false)
		if err != nil {
			return locked, fmt.Errorf("shardstore: %w", err)
		}
		locked = append(locked, f)
		if err := f.lock(); err != nil {
			return locked, err
		}
	}
	again, err := journalsIn(fs, dir)
	if err == nil && !slices.Equal(generations, again) {
		err = fmt.Errorf("shardstore: %s: %w: its journals changed", dir, ErrInUse)
	}
	return locked, err
}

// journalsIn returns the generations of a folder's journals, oldest first.
func journalsIn(fs fileSystem, dir string) (generations []uint64, err error) {
	names, err := fs.list(dir)
	if err != nil {
		return nil, fmt.Errorf("shardstore: %w", err)
	}
	for _, name := range names {
		if g, ok := generationOf(name, journalPrefix); ok {
			generations = append(generations, g)
		}
	}
	slices.Sort(generations)
	return generations, nil
}

// cutOff removes what a crash left at the end of a journal, because frames written behind it would make it look like
// damage.
func cutOff(fs fileSystem, torn *damage) error {
	f, err := fs.open(torn.name, false)
	if err != nil {
		return err
	}
	if err = f.Truncate(torn.off); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// continueJournal continues the journal of the last store behind its last whole frame. Its file, last, is open, locked and
// synced, or nil if there is none.
func continueJournal(fs fileSystem, dir string, found restored, last file) (*journal, error) {
	j := &journal{fs: fs, dir: dir, generation: max(found.generation, 1), end: found.end, file: last, durable: found.end}
	if found.end >= fileHead {
		return j, nil
	}
	// There is no journal, or a crash came before it was used.
	if last != nil {
		_ = last.Close() // nothing was written
	}
	var err error
	if j.file, err = beginJournal(fs, dir, j.generation); err != nil {
		return nil, fmt.Errorf("shardstore: %w", err)
	}
	j.end, j.durable = fileHead, 0
	return j, nil
}

// closeDisk is called when nothing runs any more but operations that saw the store open. An operation that has not written
// yet meets a closed file and changes nothing.
func (s *Store) closeDisk() error { return errors.Join(s.disk.journal.close(), s.disk.lock.Close()) }

// syncPeriodically syncs twice in Options.FsyncEvery, so that nothing stays unsynced for longer than that. With an fsync before
// each answer it has nothing to do.
func (s *Store) syncPeriodically() {
	if s.disk.syncEachAnswer {
		return
	}
	tick := time.NewTicker(max(s.disk.syncEvery/2, time.Millisecond))
	defer tick.Stop()
	var logged *failure
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			logged = s.syncOnce(logged)
		}
	}
}

// syncOnce syncs what was written. It logs a failure unless that is the one given, and returns the one that there is: a lasting one
// is met again at every tick.
func (s *Store) syncOnce(logged *failure) *failure {
	err := s.disk.journal.syncAll()
	is := s.disk.journal.failure.Load()
	if err != nil && (is == nil || is != logged) { // a snapshot may have ended it just now
		s.log.Error("shardstore: writes are refused until a snapshot succeeds", slog.Any("error", err))
	}
	return is
}

const (
	snapshotLook  = 100 * time.Millisecond // how often to look whether a snapshot is due
	snapshotRetry = 5 * time.Second        // how long to wait after a snapshot that failed
)

// snapshotWhenDue takes a snapshot when the journal is as long as the last snapshot, so that reading both takes at most
// twice as long, and when a sync has failed.
func (s *Store) snapshotWhenDue() {
	tick := time.NewTicker(snapshotLook)
	defer tick.Stop()
	var wait time.Time
	for {
		select {
		case <-s.stop:
			return
		case now := <-tick.C:
			if now.Before(wait) || !s.disk.snapshotDue() {
				continue
			}
			if err := s.snapshot(); err != nil && !errors.Is(err, errStopped) {
				s.log.Error("shardstore: no snapshot was taken", slog.Any("error", err))
				wait = now.Add(snapshotRetry)
			}
		}
	}
}

func (d *disk) snapshotDue() bool {
	if t := d.journal.failure.Load(); t != nil && t.lasting {
		return true
	}
	return d.journal.size() >= max(d.limit, d.snapshotBytes.Load())
}
