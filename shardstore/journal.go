package shardstore

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/coatcheck/coatcheck"
)

// journal is the file that every change is written to before it happens. An operation writes with its shard's lock held: no
// other operation has seen a change that could not be written, so none must be undone. Its invariants:
//   - file holds whole frames up to end. Nothing stands behind end, or, if partial is set, a part of a failed write, which
//     is cut off before anything else is written;
//   - written counts the bytes of all files that this store wrote, and orders operations; everything up to synced would
//     survive a power cut;
//   - an error of a sync is lasting: the system may have dropped what it could not write. Only a snapshot, which begins a
//     new file, ends it.
//
// Frames are written in batches: the first caller of a batch waits until the file is free and writes for all callers that
// came meanwhile. The others wait for the first, and are woken together. A mutex that all waited for would wake them one
// after the other, each on its own core.
//
// Lock order: a shard's, then syncing, then writing, then collecting.
type journal struct {
	fs  fileSystem
	dir string

	collecting sync.Mutex // held for as long as it takes to copy a frame
	batch      batch      // guarded by collecting: the frames that the next write takes to the file
	spare      []byte     // guarded by collecting: a buffer for the batch after that

	writing    sync.Mutex // guards what follows
	file       file
	generation uint64
	end        int64
	partial    bool
	durable    int64  // the offset in file that a D is to name next; 0: nothing new was synced
	retired    []file // earlier files that are not synced yet; taken out with syncing held, when they are closed
	written    uint64

	syncing sync.Mutex
	synced  uint64 // guarded by syncing

	failure  atomic.Pointer[failure] // the last write or sync that failed, nil if the last one worked
	failures atomic.Uint64           // how many failed
}

// failure is why writes are refused.
type failure struct {
	err     error
	lasting bool
}

// batch holds the frames that one call writes. It is empty until its first caller has come, which writes it.
type batch struct {
	frames []byte
	others *outcome // nil: its first caller is its only one
}

// outcome is what all callers of a batch but the first wait for.
type outcome struct {
	known chan struct{} // closed when the fields below are set
	upTo  uint64
	err   error
}

// maxBatchBuffer is how large a buffer the journal keeps for its next batches.
const maxBatchBuffer = 1 << 20

const journalPrefix = "journal-"

func journalName(dir string, generation uint64) string {
	return filepath.Join(dir, fmt.Sprintf(journalPrefix+"%08d", generation))
}

// write writes a frame and returns the count up to which the journal must be synced for the frame to survive a power cut.
func (j *journal) write(frame []byte) (upTo uint64, err error) {
	if others := j.join(frame); others != nil {
		<-others.known
		return others.upTo, others.err
	}
	return j.writeBatch()
}

// join adds a frame to the batch. It returns nil to the batch's first caller, which must call writeBatch, and to every
// other caller the outcome to wait for.
func (j *journal) join(frame []byte) *outcome {
	j.collecting.Lock()
	defer j.collecting.Unlock()
	first := len(j.batch.frames) == 0
	j.batch.frames = append(j.batch.frames, frame...)
	if first {
		return nil
	}
	if j.batch.others == nil {
		j.batch.others = &outcome{known: make(chan struct{})}
	}
	return j.batch.others
}

// writeBatch writes the batch when the file is free, and wakes its other callers.
func (j *journal) writeBatch() (upTo uint64, err error) {
	j.writing.Lock()
	b := j.takeBatch()
	err = j.append(&b.frames)
	upTo = j.written
	j.writing.Unlock()

	if b.others != nil {
		b.others.upTo, b.others.err = upTo, err
		close(b.others.known)
	}
	if cap(b.frames) <= maxBatchBuffer {
		j.collecting.Lock()
		j.spare = b.frames[:0]
		j.collecting.Unlock()
	}
	return upTo, err
}

// takeBatch takes the batch out. Later calls of write join the next one.
func (j *journal) takeBatch() batch {
	j.collecting.Lock()
	defer j.collecting.Unlock()
	b := j.batch
	j.batch = batch{frames: j.spare}
	j.spare = nil
	return b
}

// append writes all frames to the end of the file, or none of them. The caller holds writing.
func (j *journal) append(frames *[]byte) error {
	before := j.failure.Load()
	if before != nil && before.lasting {
		return unavailable(before.err)
	}
	if j.durable != 0 {
		*frames = appendFrame(*frames, numberEntry('D', uint64(j.durable)))
	}
	err := j.cutPartial()
	if err == nil {
		_, err = j.file.WriteAt(*frames, j.end)
		j.partial = err != nil
	}
	if err != nil {
		_ = j.cutPartial() // if this fails too, the next write does it
		j.failures.Add(1)
		j.failure.CompareAndSwap(before, &failure{err: err}) // a failure that a sync has found meanwhile stays
		return unavailable(err)
	}
	j.end += int64(len(*frames))
	j.written += uint64(len(*frames))
	j.durable = 0
	j.failure.CompareAndSwap(before, nil) // likewise
	return nil
}

// cutPartial removes what a failed write left behind the end. The caller holds writing.
func (j *journal) cutPartial() error {
	if !j.partial {
		return nil
	}
	if err := j.file.Truncate(j.end); err != nil {
		return err
	}
	j.partial = false
	return nil
}

func unavailable(err error) error {
	return fmt.Errorf("shardstore: journal: %w: %w", coatcheck.ErrUnavailable, err)
}

// sync makes everything that was written up to a count survive a power cut. One sync serves all callers that waited for the
// previous one.
func (j *journal) sync(upTo uint64) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced >= upTo {
		return nil
	}
	if t := j.failure.Load(); t != nil && t.lasting {
		return unavailable(t.err)
	}
	j.writing.Lock()
	written, end, current, retired := j.written, j.end, j.file, j.retired
	j.writing.Unlock()

	for _, f := range slices.Concat(retired, []file{current}) {
		if err := f.Sync(); err != nil {
			j.failures.Add(1)
			j.failure.Store(&failure{err: err, lasting: true})
			return unavailable(err)
		}
	}
	for _, f := range retired {
		_ = f.Close() // it is synced, so nothing is left to fail
	}
	j.synced = written
	j.writing.Lock()
	j.retired = slices.Delete(j.retired, 0, len(retired)) // rotate may have added others
	if j.file == current {
		j.durable = end
	}
	j.writing.Unlock()
	return nil
}

// syncAll makes everything that was written so far survive a power cut.
func (j *journal) syncAll() error {
	j.writing.Lock()
	written := j.written
	j.writing.Unlock()
	return j.sync(written)
}

// rotate begins a new file, to which everything is written from now on, and returns its generation.
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
	if err := j.cutPartial(); err != nil {
		_ = f.Close() // the other error is the one that counts
		return 0, fmt.Errorf("%w (after that: %w)", err, j.fs.remove(journalName(j.dir, generation)))
	}
	j.retired = append(j.retired, j.file)
	j.file, j.generation, j.end, j.durable = f, generation, fileHead, 0
	return generation, nil
}

// beginJournal makes an empty journal that survives a power cut, and locks it before the lock of an earlier one is given up.
func beginJournal(fs fileSystem, dir string, generation uint64) (file, error) {
	name := journalName(dir, generation)
	// One that could not be completed may still be there. Nothing was written to it.
	if err := fs.remove(name); err != nil {
		return nil, err
	}
	f, err := fs.open(name, true)
	if err != nil {
		return nil, err
	}
	err = f.lock()
	if err == nil {
		_, err = f.WriteAt(fileHeadOf(journalMagic, generation), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = fs.syncDir(dir)
	}
	if err != nil {
		_ = f.Close()       // the first error is the one to tell
		_ = fs.remove(name) // if this fails, the next call does it
		return nil, err
	}
	return f, nil
}

// replaced says that a snapshot holds what was written before the last rotate. It ends the lasting failure that there was
// before that, if any. One that came later stays, because it may concern the new file, in which alone stands what changed since
// its part of the snapshot was written.
func (j *journal) replaced(before *failure) {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.writing.Lock()
	defer j.writing.Unlock()
	for _, f := range j.retired {
		_ = f.Close() // its contents stand in the snapshot
	}
	j.retired = nil
	if before != nil && before.lasting && j.failure.CompareAndSwap(before, nil) {
		j.synced = j.written // nothing was written since it failed
	}
}

// close syncs the file, appends a D, by which the next store tells damage from a torn end, and closes the file.
func (j *journal) close() error {
	err := j.syncAll()
	j.writing.Lock()
	if err == nil && j.durable != 0 {
		err = j.append(new([]byte))
	}
	end, retired := j.file.Sync, j.retired
	j.writing.Unlock()
	if err == nil {
		err = end()
	}
	for _, f := range retired {
		_ = f.Close() // a sync has failed, which is the error to tell
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
