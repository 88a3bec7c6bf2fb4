package shardstore

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
)

// SyncNow syncs the journal.
func (s *Store) SyncNow() error { return s.disk.journal.syncAll() }

// Power is a file system in memory that a power cut leaves with what was synced and any part of the rest, sector by
// sector. Of the names that were made, changed and removed since the last sync of the folder, a cut keeps the first few.
type Power struct {
	mu     sync.Mutex // guards all below, the files included
	now    map[string]*powerFile
	synced map[string]*powerFile
	names  []func(map[string]*powerFile) // since the last sync of the folder
}

type powerFile struct {
	p      *Power
	data   []byte
	synced []byte
	writes []powerWrite
}

type powerWrite struct {
	off int64
	b   []byte
}

// NewPower returns an empty file system.
func NewPower() *Power {
	return &Power{now: map[string]*powerFile{}, synced: map[string]*powerFile{}}
}

// Use sets the file system in opt.
func (p *Power) Use(opt *Options) { opt.files = p }

// Cut returns what a power cut at this moment leaves. The store may go on with this file system.
func (p *Power) Cut(r *rand.Rand) *Power {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := maps.Clone(p.synced)
	for _, change := range p.names[:r.IntN(len(p.names)+1)] {
		change(names)
	}
	left := NewPower()
	for name, f := range names {
		data := f.left(r)
		left.now[name] = &powerFile{p: left, data: data, synced: slices.Clone(data)}
	}
	left.synced = maps.Clone(left.now)
	return left
}

// left returns what is left of a file: each sector as it was at some moment since the last sync.
func (f *powerFile) left(r *rand.Rand) []byte {
	parts := map[int64][]powerWrite{}
	var sectors []int64 // in the order of the first write
	for _, w := range f.writes {
		for len(w.b) > 0 {
			no := w.off / sector
			n := min(int64(len(w.b)), (no+1)*sector-w.off)
			if parts[no] == nil {
				sectors = append(sectors, no)
			}
			parts[no] = append(parts[no], powerWrite{w.off, w.b[:n]})
			w.off, w.b = w.off+n, w.b[n:]
		}
	}
	data := slices.Clone(f.synced)
	nothing, all := r.IntN(4) == 0, r.IntN(4) == 0
	for _, no := range sectors {
		for i, w := range parts[no] {
			if nothing || !all && r.IntN(len(parts[no])+1) <= i {
				break
			}
			data = put512(data, w.off, w.b)
		}
	}
	return data
}

func put512(data []byte, off int64, b []byte) []byte {
	if missing := off + int64(len(b)) - int64(len(data)); missing > 0 {
		data = append(data, make([]byte, missing)...)
	}
	copy(data[off:], b)
	return data
}

func (p *Power) change(f func(map[string]*powerFile)) {
	f(p.now)
	p.names = append(p.names, f)
}

func (p *Power) open(name string, create bool) (file, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.now[name]
	if (f != nil) == create {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	}
	if create {
		f = &powerFile{p: p}
		p.change(func(names map[string]*powerFile) { names[name] = f })
	}
	return f, nil
}

func (p *Power) rename(from, to string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.change(func(names map[string]*powerFile) {
		if f := names[from]; f != nil {
			names[to] = f
			delete(names, from)
		}
	})
	return nil
}

func (p *Power) remove(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.change(func(names map[string]*powerFile) { delete(names, name) })
	return nil
}

func (p *Power) list(string) (names []string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.now {
		names = append(names, filepath.Base(name))
	}
	return names, nil
}

func (p *Power) syncDir(string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.synced, p.names = maps.Clone(p.now), nil
	return nil
}

func (f *powerFile) ReadAt(b []byte, off int64) (int, error) {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	n := copy(b, f.data[min(off, int64(len(f.data))):])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *powerFile) WriteAt(b []byte, off int64) (int, error) {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	f.writes = append(f.writes, powerWrite{off, slices.Clone(b)})
	f.data = put512(f.data, off, b)
	return len(b), nil
}

func (f *powerFile) Truncate(size int64) error {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	f.data, f.synced, f.writes = f.data[:size], slices.Clone(f.data[:size]), nil // the store always syncs after truncating
	return nil
}

func (f *powerFile) Sync() error {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	f.synced, f.writes = slices.Clone(f.data), nil
	return nil
}

func (f *powerFile) size() (int64, error) {
	f.p.mu.Lock()
	defer f.p.mu.Unlock()
	return int64(len(f.data)), nil
}

func (f *powerFile) Close() error { return nil }

func (f *powerFile) lock() error { return nil }
