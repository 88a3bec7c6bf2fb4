package shardstore

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/coatcheck/coatcheck"
)

// journal is the file that every change is written to before it happens. An operation writes with its shard's lock held:
// what cannot be written has then been seen by nobody, and need not be undone. Its invariants:
//   - file holds whole frames up to end. Behind that stands nothing, or, if scrap is set, part of what could not be
//     written; it is cut off before anything else is written;
//   - written counts the bytes of all files that this store wrote, and orders operations; what is up to synced would
//     survive a power cut;
//   - an error of a sync is lasting: the system may have dropped what it could not write. Only a snapshot, which begins a
//     new file, ends it.
//
// Lock order: a shard's, then syncing, then writing, then collecting.
type journal struct {
	fs  fileSystem
	dir string

	collecting sync.Mutex
	batch      *batch // guarded by collecting: what waits to be written
	spare      []byte // guarded by collecting

	writing    sync.Mutex // guards what follows
	file       file
	generation uint64
	end        int64
	scrap      bool
	durable    int64  // what is to be told of in file as synced; 0: nothing new
	retired    []file // earlier files that are not synced yet
	written    uint64

	syncing sync.Mutex
	synced  uint64 // guarded by syncing

	trouble atomic.Pointer[trouble] // the last write or sync that failed, nil if the last one worked
	failed  atomic.Uint64           // how many failed
}

// trouble is why writes are refused.
type trouble struct {
	err     error
	lasting bool
}

// batch is what is written with one call.
type batch struct {
	bytes []byte
	done  bool // guarded, with what follows, by journal.writing
	upTo  uint64
	err   error
}

func journalName(dir string, generation uint64) string {
	return filepath.Join(dir, fmt.Sprintf("journal-%08d", generation))
}

// write writes a frame and returns the count up to which it must be synced to last. Who waits while another writes is
// written together with all others that wait.
func (j *journal) write(payload []byte) (upTo uint64, err error) {
	j.collecting.Lock()
	b := j.batch
	b.bytes = appendFrame(b.bytes, payload)
	j.collecting.Unlock()

	j.writing.Lock()
	defer j.writing.Unlock()
	if !b.done {
		j.flush()
	}
	return b.upTo, b.err
}

// flush writes the batch. It wants writing held.
func (j *journal) flush() {
	j.collecting.Lock()
	b := j.batch
	j.batch = &batch{bytes: j.spare[:0]}
	j.spare = nil
	j.collecting.Unlock()

	b.err = j.append(b.bytes)
	b.upTo, b.done = j.written, true

	j.collecting.Lock()
	j.spare, b.bytes = b.bytes, nil
	j.collecting.Unlock()
}

// append writes frames to the end of the file, or nothing. It wants writing held.
func (j *journal) append(frames []byte) error {
	before := j.trouble.Load()
	if before != nil && before.lasting {
		return unavailable(before.err)
	}
	if j.durable != 0 {
		frames = appendFrame(frames, numberEntry('D', uint64(j.durable)))
	}
	err := j.cutScrap()
	if err == nil {
		_, err = j.file.WriteAt(frames, j.end)
		j.scrap = err != nil
	}
	if err != nil {
		_ = j.cutScrap() // else the next write does
		j.fail(err, false)
		return unavailable(err)
	}
	j.end += int64(len(frames))
	j.written += uint64(len(frames))
	j.durable = 0
	j.trouble.CompareAndSwap(before, nil) // not what a sync has found meanwhile
	return nil
}

// cutScrap removes what a failed write left behind the end. It wants writing held.
func (j *journal) cutScrap() error {
	if !j.scrap {
		return nil
	}
	if err := j.file.Truncate(j.end); err != nil {
		return err
	}
	j.scrap = false
	return nil
}

func (j *journal) fail(err error, lasting bool) {
	j.failed.Add(1)
	j.trouble.Store(&trouble{err, lasting})
}

func unavailable(err error) error {
	return fmt.Errorf("shardstore: journal: %w: %w", coatcheck.ErrUnavailable, err)
}

// sync makes what was written up to a count last. Those who wait while another syncs are served by one sync together.
func (j *journal) sync(upTo uint64) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced >= upTo {
		return nil
	}
	j.writing.Lock()
	written, end, current, retired := j.written, j.end, j.file, j.retired
	j.retired = nil
	j.writing.Unlock()

	if t := j.trouble.Load(); t != nil && t.lasting {
		return unavailable(t.err)
	}
	for _, f := range retired {
		if err := f.Sync(); err != nil {
			j.fail(err, true)
			return unavailable(err)
		}
		_ = f.Close() // it is synced, there is nothing left to fail
	}
	if err := current.Sync(); err != nil {
		j.fail(err, true)
		return unavailable(err)
	}
	j.synced = written
	j.writing.Lock()
	if j.file == current {
		j.durable = end
	}
	j.writing.Unlock()
	return nil
}

// syncAll makes all that was written last.
func (j *journal) syncAll() error {
	j.writing.Lock()
	written := j.written
	j.writing.Unlock()
	return j.sync(written)
}

// rotate begins a new file and returns its generation. Everything from now on is written there.
func (j *journal) rotate() (uint64, error) {
	j.writing.Lock()
	generation, empty := j.generation+1, j.end == fileHead
	j.writing.Unlock()
	if empty { // as after a snapshot that failed
		return generation - 1, nil
	}
	f, err := beginJournal(j.fs, j.dir, generation)
	if err != nil {
		return 0, err
	}
	j.writing.Lock()
	defer j.writing.Unlock()
	if err := j.cutScrap(); err != nil {
		_ = f.Close() // the error that counts is the other
		return 0, fmt.Errorf("%w (and then: %w)", err, j.fs.remove(journalName(j.dir, generation)))
	}
	j.retired = append(j.retired, j.file)
	j.file, j.generation, j.end, j.durable = f, generation, fileHead, 0
	return generation, nil
}

// beginJournal makes an empty journal that survives a power cut.
func beginJournal(fs fileSystem, dir string, generation uint64) (file, error) {
	name := journalName(dir, generation)
	f, err := fs.open(name, true)
	if err != nil {
		return nil, err
	}
	if _, err = f.WriteAt(fileHeadOf(journalMagic, generation), 0); err == nil {
		if err = f.Sync(); err == nil {
			err = fs.syncDir(dir)
		}
	}
	if err != nil {
		_ = f.Close() // the first error is the one to tell
		_ = fs.remove(name)
		return nil, err
	}
	return f, nil
}

// mend forgets lasting trouble: what could not be synced stands in a snapshot now.
func (j *journal) mend() {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.writing.Lock()
	defer j.writing.Unlock()
	for _, f := range j.retired {
		_ = f.Close() // what was in it stands in the snapshot
	}
	j.retired = nil
	if t := j.trouble.Load(); t != nil && t.lasting {
		j.synced = j.written
		j.trouble.Store(nil)
	}
}

// close syncs, says so at the end of the file, so that damage will be told from a torn end, and closes it.
func (j *journal) close() error {
	err := j.syncAll()
	j.writing.Lock()
	if err == nil && j.durable != 0 {
		err = j.append(nil)
	}
	end := j.file.Sync
	j.writing.Unlock()
	if err == nil {
		err = end()
	}
	if cerr := j.file.Close(); err == nil {
		err = cerr
	}
	return err
}

// size returns how long the file is.
func (j *journal) size() int64 {
	j.writing.Lock()
	defer j.writing.Unlock()
	return j.end
}
