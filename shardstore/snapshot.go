package shardstore

import (
	"fmt"
	"path/filepath"
	"time"
)

// A snapshot is what a store holds, written while the store goes on working. First a new journal is begun, then the shards are
// written slab by slab, each slab in one hold of the lock. What changes meanwhile stands in the new journal, so the order of
// slabs does not matter. When the snapshot has its name, the journals before it are removed.

const (
	snapshotTemp   = "snapshot.tmp"
	snapshotBuffer = 1 << 20
)

const snapshotPrefix = "snapshot-"

func snapshotName(dir string, generation uint64) string {
	return filepath.Join(dir, fmt.Sprintf(snapshotPrefix+"%08d", generation))
}

// snapshot takes a snapshot. After an error everything is as it was, except that a new journal may have begun.
func (s *Store) snapshot() error {
	d := s.disk
	d.snapshots.Lock()
	defer d.snapshots.Unlock()
	before := d.journal.failure.Load()
	generation, err := d.journal.rotate()
	if err != nil {
		return err
	}
	temp := filepath.Join(d.dir, snapshotTemp)
	if err := d.fs.remove(temp); err != nil {
		return err
	}
	f, err := d.fs.open(temp, true)
	if err != nil {
		return err
	}
	out := &snapshotWriter{f: f, frames: fileHeadOf(snapshotMagic, generation)}
	err = s.writeTo(out)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = d.fs.rename(temp, snapshotName(d.dir, generation))
	}
	if err == nil {
		err = d.fs.syncDir(d.dir)
	}
	if err != nil {
		_ = d.fs.remove(temp) // if this fails, the next snapshot does it
		return err
	}
	d.journal.replaced(before)
	d.snapshotBytes.Store(out.end)
	d.snapshotAt.Store(s.now().UnixMilli())
	return s.dropBefore(generation)
}

// dropBefore removes the files that the snapshot of a generation replaces.
func (s *Store) dropBefore(generation uint64) error {
	names, err := s.disk.fs.list(s.disk.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		g, ok := generationOf(name, snapshotPrefix)
		if !ok {
			g, ok = generationOf(name, journalPrefix)
		}
		if ok && g < generation {
			if err := s.disk.fs.remove(filepath.Join(s.disk.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) writeTo(out *snapshotWriter) error {
	for i := range s.shards {
		if err := s.shards[i].writeTo(out, s.now); err != nil {
			return err
		}
		select {
		case <-s.stop:
			return errStopped
		default:
		}
	}
	return out.finish()
}

// writeTo writes a shard. It takes the lock itself, once for each slab.
func (sh *shard) writeTo(out *snapshotWriter, now func() time.Time) error {
	sh.setSnapshotting(true) // a slot that compact moves would be written twice or not at all, and stand in no journal
	defer sh.setSnapshotting(false)
	for id := uint32(1); ; id++ {
		entries, ok := sh.appendSlab(out.entries[:0], id, now().UnixMilli(), &out.sessions)
		if !ok {
			return nil
		}
		out.entries = entries
		if err := out.write(entries); err != nil {
			return err
		}
	}
}

func (sh *shard) setSnapshotting(on bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.snapshotting = on
}

// appendSlab appends the entries of everything that stands in a slab, and reports whether there is such a slab.
func (sh *shard) appendSlab(b []byte, id uint32, now int64, sessions *uint64) ([]byte, bool) {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if int(id) >= len(sh.slots.list) {
		return b, false
	}
	sh.slots.each(id, func(_ ref, s slot) {
		if s.ends() <= now {
			return
		}
		switch s.kind() {
		case session:
			b = appendPut(b, s.key(), s.payload())
			*sessions++
		case tombstone:
			b = appendEnd(b, s.key(), s.ends())
		case mark:
			b = appendMarkEntry(b, s.ends(), s.mark(), s.user())
		}
	})
	return b, true
}

// snapshotWriter collects frames and writes many with one call.
type snapshotWriter struct {
	f        file
	frames   []byte
	entries  []byte // of one slab; reused
	end      int64
	sessions uint64
}

func (w *snapshotWriter) write(entries []byte) error {
	if len(entries) == 0 {
		return nil
	}
	w.frames = appendFrame(w.frames, entries)
	if len(w.frames) < snapshotBuffer {
		return nil
	}
	return w.flush()
}

func (w *snapshotWriter) flush() error {
	_, err := w.f.WriteAt(w.frames, w.end)
	w.end += int64(len(w.frames))
	w.frames = w.frames[:0]
	return err
}

func (w *snapshotWriter) finish() error {
	w.frames = appendFrame(w.frames, numberEntry('F', w.sessions))
	return w.flush()
}
