package shardstore

import (
	"os"
	"sync"
	"syscall"
)

// Snapshot takes a snapshot now.
func (s *Store) Snapshot() error { return s.snapshot() }

// SyncTicks is what n ticks of the clock do that syncs the journal.
func (s *Store) SyncTicks(n int) {
	var logged *failure
	for range n {
		logged = s.syncOnce(logged)
	}
}

// Rotate begins a new journal, as a snapshot does first.
func (s *Store) Rotate() error {
	_, err := s.disk.journal.rotate()
	return err
}

// Abandon leaves the store's files as a killed process would.
func (s *Store) Abandon() {
	s.closing.Do(func() {
		s.closed.Store(true)
		close(s.stop)
		s.running.Wait()
		_ = s.disk.lock.Close()
		for _, f := range append(s.disk.journal.retired, s.disk.journal.file) {
			_ = f.Close()
		}
	})
}

// FlakyFiles is a file system that fills up, fails to sync, and forgets what was not synced.
type FlakyFiles struct {
	mu          sync.Mutex
	full        bool
	room        int // how many bytes still fit in when it is full
	failSyncs   bool
	failRemoves bool
	open        int               // how many files are open
	before      map[string]func() // called once
}

// NewFlakyFiles returns a file system without faults.
func NewFlakyFiles() *FlakyFiles { return &FlakyFiles{before: map[string]func(){}} }

// Use sets the file system in opt.
func (d *FlakyFiles) Use(opt *Options) { opt.files = flakySystem{d} }

// Fill leaves room for that many bytes.
func (d *FlakyFiles) Fill(room int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full, d.room = true, room
}

// Drain makes room.
func (d *FlakyFiles) Drain() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = false
}

// FailSyncs makes every sync fail, or none.
func (d *FlakyFiles) FailSyncs(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failSyncs = on
}

// FailRemoves makes every removal of a file fail, or none.
func (d *FlakyFiles) FailRemoves(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failRemoves = on
}

// Before calls f before the next write, sync or rename; with the last, a snapshot is complete but for its name.
func (d *FlakyFiles) Before(what string, f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.before[what] = f
}

func (d *FlakyFiles) begin(what string) {
	d.mu.Lock()
	f := d.before[what]
	delete(d.before, what)
	d.mu.Unlock()
	if f != nil {
		f()
	}
}

// Open returns how many files are open.
func (d *FlakyFiles) Open() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

func (d *FlakyFiles) opened(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open += n
}

type flakySystem struct{ d *FlakyFiles }

func (s flakySystem) open(name string, create bool) (file, error) {
	f, err := osFiles{}.open(name, create)
	if err != nil {
		return nil, err
	}
	s.d.opened(1)
	return flakyFile{f, s.d}, nil
}

func (s flakySystem) rename(from, to string) error {
	s.d.begin("rename")
	return osFiles{}.rename(from, to)
}

func (s flakySystem) remove(name string) error {
	s.d.mu.Lock()
	fail := s.d.failRemoves
	s.d.mu.Unlock()
	if _, err := os.Lstat(name); fail && err == nil {
		return syscall.EIO
	}
	return osFiles{}.remove(name)
}

func (s flakySystem) list(dir string) ([]string, error) { return osFiles{}.list(dir) }
func (s flakySystem) syncDir(dir string) error          { return osFiles{}.syncDir(dir) }

type flakyFile struct {
	file
	d *FlakyFiles
}

func (f flakyFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.begin("write")
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if !f.d.full || len(b) <= f.d.room {
		f.d.room -= len(b)
		return f.file.WriteAt(b, off)
	}
	n, err := f.file.WriteAt(b[:f.d.room], off)
	if f.d.room = 0; err == nil {
		err = syscall.ENOSPC
	}
	return n, err
}

func (f flakyFile) Sync() error {
	f.d.begin("sync")
	f.d.mu.Lock()
	fail := f.d.failSyncs
	f.d.mu.Unlock()
	if fail {
		return syscall.EIO
	}
	return f.file.Sync()
}

func (f flakyFile) Close() error {
	err := f.file.Close()
	if err == nil { // it was open
		f.d.opened(-1)
	}
	return err
}
