package shardstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// disk is what a store with Options.Dir has beside its memory.
type disk struct {
	fs          fileSystem
	dir         string
	lock        *os.File
	journal     *journal
	everyAnswer bool
	syncEvery   time.Duration
	limit       int64 // how long the journal grows before a snapshot is due

	snapshotBytes atomic.Int64 // of the last snapshot; written by snapshot
	snapshotAt    atomic.Int64 // Unix milliseconds; written by snapshot
}

// ErrInUse: another store, of this process or another one, works with the folder.
var ErrInUse = errors.New("in use by another store")

// ErrNoJournal is Verify's error for a folder in which no store has left anything.
var ErrNoJournal = errors.New("holds no journal")

var errStopped = errors.New("shardstore: the store is closed")

// openDisk takes the folder, reads what stands there and goes on with its last journal.
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
		everyAnswer: opt.FsyncEvery < 0, syncEvery: opt.FsyncEvery,
	}
	if err := s.reopen(); err != nil {
		_ = lock.Close() // nothing was written to it
		return err
	}
	for i := range s.shards {
		s.shards[i].pen.journal = s.disk.journal
	}
	return nil
}

func (s *Store) reopen() error {
	d := s.disk
	r := restore{s: s, fs: d.fs, dir: d.dir}
	was, err := r.load()
	if err != nil {
		return err
	}
	s.sweep()
	for _, name := range was.olds {
		if err := d.fs.remove(filepath.Join(d.dir, name)); err != nil {
			return fmt.Errorf("shardstore: %w", err)
		}
	}
	for _, torn := range was.torn {
		if err := cutOff(d.fs, torn); err != nil {
			return fmt.Errorf("shardstore: %w", err)
		}
	}
	d.snapshotBytes.Store(was.snapshot)
	d.journal, err = continueJournal(d.fs, d.dir, was)
	return err
}

// cutOff removes what a crash left at the end of a journal, before anything that is written later could make it look like
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

// continueJournal opens the journal where the last store ended, behind its last whole frame.
func continueJournal(fs fileSystem, dir string, was restored) (*journal, error) {
	j := &journal{fs: fs, dir: dir, batch: &batch{}, generation: max(was.generation, 1), end: was.end}
	var err error
	if was.end < fileHead { // there is none, or a crash came before it was used
		if err = fs.remove(journalName(dir, j.generation)); err == nil {
			j.end = fileHead
			j.file, err = beginJournal(fs, dir, j.generation)
		}
	} else if j.file, err = fs.open(journalName(dir, was.generation), false); err == nil {
		if err = j.file.Sync(); err == nil {
			j.durable = was.end
		}
	}
	if err != nil {
		return nil, fmt.Errorf("shardstore: %w", err)
	}
	return j, nil
}

// closeDisk is called when nothing else runs any more, but for operations that saw the store open. What they have not
// written yet meets a closed file, and does not happen.
func (s *Store) closeDisk() error { return errors.Join(s.disk.journal.close(), s.disk.lock.Close()) }

// syncNowAndThen keeps what was written and not synced from growing older than Options.FsyncEvery: it syncs twice in that
// time. With an fsync before each answer it has nothing to do.
func (s *Store) syncNowAndThen() {
	if s.disk.everyAnswer {
		return
	}
	tick := time.NewTicker(max(s.disk.syncEvery/2, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			if err := s.disk.journal.syncAll(); err != nil {
				s.log.Error("shardstore: writes are refused until a snapshot succeeds", slog.Any("error", err))
			}
		}
	}
}

const (
	snapshotLook  = 100 * time.Millisecond // how often is looked whether a snapshot is due
	snapshotAgain = 5 * time.Second        // how long after one that failed
)

// snapshotNowAndThen takes a snapshot when the journal is as long as the last one, so that reading both takes no more than
// twice the time, and when a sync has failed.
func (s *Store) snapshotNowAndThen() {
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
				wait = now.Add(snapshotAgain)
			}
		}
	}
}

func (d *disk) snapshotDue() bool {
	if t := d.journal.trouble.Load(); t != nil && t.lasting {
		return true
	}
	return d.journal.size() >= max(d.limit, d.snapshotBytes.Load())
}

// Stats says how a store is.
type Stats struct {
	// Sessions is Len.
	Sessions int
	// JournalBytes is how long the journal is, SnapshotBytes how long the last snapshot. 0 without Options.Dir.
	JournalBytes, SnapshotBytes int64
	// SnapshotAt is when this store last took one, the zero time if it has not.
	SnapshotAt time.Time
	// Refusing is why writes are refused at the moment, nil if they are not: a full disk, or one that failed.
	Refusing error
	// Failures is how many writes and syncs have failed.
	Failures uint64
	// ExpiredIdle and ExpiredAbsolute are the sessions that the janitor has removed, by which expiry came first.
	ExpiredIdle, ExpiredAbsolute uint64
	// Sweeps is how often it came by, SweepTime how long it was at work in all.
	Sweeps    uint64
	SweepTime time.Duration
	// SweptTo is the time up to which all that expired is gone, by the store's clock.
	SweptTo time.Time
}

// Stats returns how the store is.
func (s *Store) Stats() Stats {
	st := Stats{
		Sessions:    s.Len(),
		ExpiredIdle: s.swept.idle.Load(), ExpiredAbsolute: s.swept.absolute.Load(),
		Sweeps: s.swept.rounds.Load(), SweepTime: time.Duration(s.swept.took.Load()), SweptTo: time.UnixMilli(s.swept.upTo.Load()),
	}
	if s.disk == nil {
		return st
	}
	st.JournalBytes, st.SnapshotBytes = s.disk.journal.size(), s.disk.snapshotBytes.Load()
	if ms := s.disk.snapshotAt.Load(); ms != 0 {
		st.SnapshotAt = time.UnixMilli(ms)
	}
	if t := s.disk.journal.trouble.Load(); t != nil {
		st.Refusing = t.err
	}
	st.Failures = s.disk.journal.failed.Load()
	return st
}

// Verify reads what a store with Options.Dir left in a folder, as New would, changes nothing, and returns how many sessions
// live there. It refuses a folder that is in use, and one without a journal, which every store leaves there (ErrNoJournal): that is
// another folder than was meant, or a copy that lacks something.
func Verify(dir string) (sessions int, err error) {
	if _, err := os.Stat(dir); err != nil {
		return 0, fmt.Errorf("shardstore: %w", err)
	}
	lock, err := lockToRead(dir)
	if err != nil {
		return 0, err
	}
	if lock != nil {
		defer func() { err = errors.Join(err, lock.Close()) }()
	}
	opt, err := Options{}.withDefaults()
	if err != nil {
		return 0, err
	}
	s := newStore(opt)
	r := restore{s: s, fs: osFiles{}, dir: dir}
	found, err := r.load()
	if err != nil {
		return 0, err
	}
	if found.generation == 0 {
		return 0, fmt.Errorf("shardstore: %s %w: %s is missing", dir, ErrNoJournal, filepath.Base(journalName(dir, 1)))
	}
	s.sweep()
	return s.Len(), nil
}
