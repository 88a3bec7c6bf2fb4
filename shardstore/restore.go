package shardstore

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/coatcheck/coatcheck"
)

// restore reads what stands in a folder: the last snapshot, and every journal since. Frames are applied by several
// goroutines in no order, which the format allows. An expired version of a session is restored too, because another version
// of it, before or behind, may not have expired; sessions that have expired are swept when everything is read.
type restore struct {
	s   *Store
	fs  fileSystem
	dir string

	frames  chan chunk
	workers sync.WaitGroup
	failing sync.Once
	failed  chan struct{} // closed with err set
	err     error

	said  uint64        // how many sessions the snapshot says that it holds
	holds atomic.Uint64 // how many the workers have found in it; one that moved while it was written counts twice in both

	torn []*damage // where journals end early: no error unless a later journal says that they were synced
}

// chunk is the payloads of some frames, and where they stand.
type chunk struct {
	entries []byte
	name    string
	off     int64
}

// chunkBytes is how much a goroutine gets at a time: enough to make the hand-over cheap.
const chunkBytes = 64 << 10

// restored is where a folder's last journal ends.
type restored struct {
	generation uint64 // 0: there is none
	end        int64
	snapshot   int64     // length of the last snapshot
	obsolete   []string  // files that do not count any more
	torn       []*damage // where files are to be cut off
}

// load reads the folder into the store's empty shards.
func (r *restore) load() (restored, error) {
	snapshots, journals, obsolete, err := r.generations()
	if err != nil {
		return restored{}, err
	}
	r.frames, r.failed = make(chan chunk, 16), make(chan struct{})
	for range runtime.GOMAXPROCS(0) {
		r.workers.Go(r.work)
	}
	res, err := r.read(snapshots, journals)
	close(r.frames)
	r.workers.Wait()
	if r.err != nil { // reading stopped because of this error
		err = r.err
	}
	if n := r.holds.Load(); err == nil && n != r.said {
		err = &damage{snapshotName(r.dir, snapshots[0]), res.snapshot, fmt.Sprintf("it has %d sessions of %d", n, r.said)}
	}
	res.obsolete, res.torn = obsolete, r.torn
	return res, err
}

// generations returns the last snapshot, if there is one, and the journals since, and the names of the obsolete files.
func (r *restore) generations() (snapshots, journals []uint64, obsolete []string, err error) {
	names, err := r.fs.list(r.dir)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("shardstore: %w", err)
	}
	for _, name := range names {
		if name == snapshotTemp {
			obsolete = append(obsolete, name)
		}
		if g, ok := generationOf(name, snapshotPrefix); ok {
			snapshots = append(snapshots, g)
		}
		if g, ok := generationOf(name, journalPrefix); ok {
			journals = append(journals, g)
		}
	}
	slices.Sort(snapshots)
	slices.Sort(journals)
	first := uint64(1)
	if last := len(snapshots) - 1; last >= 0 {
		first = snapshots[last]
		for _, g := range snapshots[:last] {
			obsolete = append(obsolete, filepath.Base(snapshotName(r.dir, g)))
		}
		snapshots = snapshots[last:]
	}
	for len(journals) > 0 && journals[0] < first {
		obsolete = append(obsolete, filepath.Base(journalName(r.dir, journals[0])))
		journals = journals[1:]
	}
	for i, g := range journals {
		if g != first+uint64(i) {
			return nil, nil, nil, fmt.Errorf("shardstore: %s is missing", journalName(r.dir, first+uint64(i)))
		}
	}
	if len(snapshots) > 0 && len(journals) == 0 {
		return nil, nil, nil, fmt.Errorf("shardstore: %s is missing", journalName(r.dir, first))
	}
	return snapshots, journals, obsolete, nil
}

func generationOf(name, prefix string) (g uint64, ok bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok || len(digits) < 8 {
		return 0, false
	}
	_, err := fmt.Sscanf(digits, "%d", &g)
	return g, err == nil && g > 0 && fmt.Sprintf("%08d", g) == digits
}

func (r *restore) read(snapshots, journals []uint64) (restored, error) {
	var res restored
	for _, g := range snapshots {
		size, err := r.snapshot(snapshotName(r.dir, g), g)
		if err != nil {
			return res, err
		}
		res.snapshot = size
	}
	for i, g := range journals {
		// beginJournal syncs a journal's head before the snapshot of its generation begins. So only a crash before that snapshot leaves a
		// journal without a whole head; beside its snapshot such a journal has lost entries.
		unused := i == len(journals)-1 && !slices.Contains(snapshots, g)
		end, err := r.journal(journalName(r.dir, g), g, unused)
		if err != nil {
			return res, err
		}
		res.generation, res.end = g, end
	}
	return res, nil
}

// snapshot reads a snapshot. A snapshot was whole before it got its name, so one that ends early is damaged, and one that lacks sessions,
// which is known when the workers are done.
func (r *restore) snapshot(name string, generation uint64) (size int64, err error) {
	err = r.open(name, func(f file) error {
		in, err := openFrames(f, name, snapshotMagic, generation)
		if err != nil {
			return err
		}
		size = in.size
		whole := false
		err = r.each(in, func(payload []byte) error {
			if whole = payload[0] == 'F'; !whole {
				return nil
			}
			end, _, err := cutEntry(payload)
			if err != nil {
				return in.damage("%v", err)
			}
			r.said = end.number
			return nil
		})
		if err == nil && !whole {
			return in.damage("it ends early")
		}
		return err
	})
	return size, err
}

// journal reads a journal and returns where it ends. A torn end is logged and left out, and so is, in a journal that a crash may have
// left unused, a head that is not whole.
func (r *restore) journal(name string, generation uint64, unused bool) (end int64, err error) {
	err = r.open(name, func(f file) error {
		if size, err := f.size(); err == nil && size < fileHead && unused {
			end = size
			return nil
		}
		in, err := openFrames(f, name, journalMagic, generation)
		if err != nil {
			return err
		}
		err = r.each(in, func(payload []byte) error {
			if payload[0] == 'D' && len(r.torn) > 0 {
				return r.torn[0]
			}
			return nil
		})
		end = in.off
		var bad *damage
		if !errors.As(err, &bad) || bad.name != name {
			return err
		}
		torn, terr := in.torn()
		if terr != nil || !torn {
			return errors.Join(err, terr)
		}
		r.s.log.Warn("shardstore: the journal ends within an entry, as after a crash; it goes on before it",
			slog.String("file", name), slog.Int64("offset", in.off), slog.Int64("bytes", in.size-in.off), slog.String("what", bad.why))
		r.torn = append(r.torn, bad)
		return nil
	})
	return end, err
}

func (r *restore) open(name string, read func(file) error) error {
	f, err := r.fs.open(name, false)
	if err != nil {
		return fmt.Errorf("shardstore: %w", err)
	}
	err = read(f)
	_ = f.Close() // the file was only read
	return err
}

// each hands all frames of a file to the workers; it calls see with each payload first.
func (r *restore) each(in *frameReader, see func(payload []byte) error) error {
	p := chunk{name: in.name, off: in.off}
	defer func() { r.hand(p) }()
	for {
		payload, err := in.next()
		if err == io.EOF { //nolint:errorlint // frameReader.next returns io.EOF unwrapped
			return nil
		}
		if err == nil {
			err = see(payload)
		}
		if err != nil {
			return err
		}
		if p.entries = append(p.entries, payload...); len(p.entries) >= chunkBytes {
			if !r.hand(p) {
				p.entries = nil
				return r.err
			}
			p = chunk{name: in.name, off: in.off, entries: make([]byte, 0, chunkBytes*2)}
		}
	}
}

// hand gives a chunk to a worker, unless one has failed.
func (r *restore) hand(p chunk) bool {
	select {
	case <-r.failed:
		return false
	case r.frames <- p:
		return true
	}
}

func (r *restore) work() {
	for p := range r.frames {
		sessions := uint64(0)
		for rest := p.entries; len(rest) > 0; {
			e, more, err := cutEntry(rest)
			if err == nil {
				err = r.s.apply(e)
			}
			if err != nil {
				r.failing.Do(func() {
					r.err = &damage{p.name, p.off, fmt.Sprintf("at or behind it: %v", err)}
					close(r.failed)
				})
				break
			}
			if e.letter == 'P' {
				sessions++
			}
			rest = more
		}
		if _, snapshot := generationOf(filepath.Base(p.name), snapshotPrefix); snapshot {
			r.holds.Add(sessions)
		}
	}
}

// apply does what an entry says, unless the store holds something newer.
func (s *Store) apply(e entry) error {
	switch e.letter {
	case 'P':
		return s.shard(e.key.Tag()).applyPut(e.key, e.record)
	case 'E':
		s.shard(e.key.Tag()).applyEnd(e.key, e.until)
	case 'M':
		s.shard(coatcheck.TagOf(string(e.user))).applyMark(e)
	}
	return nil
}

// applyPut takes the lock itself, as do applyEnd and applyMark.
func (sh *shard) applyPut(key coatcheck.Key, b []byte) error {
	hash := sh.hash(key[:])
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n := sh.find(key, hash)
	if n == 0 {
		if sh.taken != nil {
			sh.taken.Add(1)
		}
		sh.insert(key, hash, b)
		return nil
	}
	was := sh.at(n)
	switch {
	case was.is(tombstone):
	case string(was.user()) != string(coatcheck.Encoded(b).User()):
		return fmt.Errorf("%w: a session that changes its user", errEntry)
	case coatcheck.Encoded(b).Created() != coatcheck.Encoded(was.payload()).Created():
		return fmt.Errorf("%w: a session that changes its time of creation", errEntry)
	case coatcheck.Encoded(b).Version() > coatcheck.Encoded(was.payload()).Version():
		sh.replace(n, b)
	}
	return nil
}

// applyEnd leaves a tombstone even if its time is over: a version of the session may be read later.
func (sh *shard) applyEnd(key coatcheck.Key, until int64) {
	hash := sh.hash(key[:])
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n := sh.find(key, hash)
	switch {
	case n == 0:
		sh.insertTombstone(key, hash, until)
	case sh.at(n).is(session):
		sh.toTombstone(n, until)
	}
}

// applyMark keeps the later of two marks.
func (sh *shard) applyMark(e entry) {
	o := sh.owner(e.user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if n := sh.findOwner(&sh.marks, o); n == 0 || sh.at(n).ends() < e.until {
		sh.leaveMark(o, e.mark, e.until)
	}
}
