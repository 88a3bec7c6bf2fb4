package shardstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// frameReader reads a file's frames one after the other, through a window that moves over the file.
type frameReader struct {
	name   string
	f      file
	size   int64
	off    int64 // where the next frame begins
	window []byte
	base   int64 // where the window begins
}

const (
	windowBytes = 1 << 20
	sector      = 512
	// maxTorn is how many bytes behind a damaged frame may be unreadable for a journal still to count as torn by a crash.
	maxTorn = 256 << 20
	// maxSought is the largest frame that the search behind a damaged frame finds.
	maxSought = 1 << 20
)

// damage is the error of a file that holds something else where a frame should begin.
type damage struct {
	name string
	off  int64
	why  string
}

func (d *damage) Error() string {
	return fmt.Sprintf("shardstore: %s is damaged at offset %d: %s", d.name, d.off, d.why)
}

func (r *frameReader) damage(format string, args ...any) error {
	return &damage{r.name, r.off, fmt.Sprintf(format, args...)}
}

// openFrames checks that the head of a file agrees with its name.
func openFrames(f file, name, magic string, generation uint64) (*frameReader, error) {
	size, err := f.size()
	if err != nil {
		return nil, err
	}
	r := &frameReader{name: name, f: f, size: size}
	if size < fileHead {
		return nil, r.damage("it ends within its head: it has %d bytes of %d", size, fileHead)
	}
	head, err := r.peek(fileHead)
	if err != nil {
		return nil, err
	}
	if want := fileHeadOf(magic, generation); !bytes.Equal(head, want) {
		return nil, r.damage("it begins with %.20q, not with the head of a %s of generation %d", head, magic, generation)
	}
	r.off = fileHead
	return r, nil
}

// peek returns the next n bytes, or fewer at the end of the file. They are valid until the next call.
func (r *frameReader) peek(n int64) ([]byte, error) {
	n = min(n, r.size-r.off)
	if at := r.off - r.base; r.off < r.base || at+n > int64(len(r.window)) {
		r.window = append(r.window[:0], make([]byte, min(max(n, windowBytes), r.size-r.off))...)
		r.base = r.off
		if _, err := r.f.ReadAt(r.window, r.off); err != nil && err != io.EOF { //nolint:errorlint // ReaderAt promises io.EOF itself
			return nil, fmt.Errorf("shardstore: %s: %w", r.name, err)
		}
	}
	at := r.off - r.base
	return r.window[at : at+n], nil
}

// next returns the payload of the next frame, which is valid until the next call; io.EOF at the end of the file. If no frame
// stands there, the error is a *damage, and the reader stays where it is.
func (r *frameReader) next() ([]byte, error) {
	if r.off == r.size {
		return nil, io.EOF
	}
	b, err := r.peek(frameHead)
	if err != nil {
		return nil, err
	}
	if len(b) < frameHead {
		return nil, r.damage("it ends within the head of an entry")
	}
	length := int64(binary.LittleEndian.Uint32(b))
	switch {
	case length == 0 || length > maxFrame:
		return nil, r.damage("an entry of %d bytes", length)
	case length > r.size-r.off-frameHead:
		return nil, r.damage("an entry of %d bytes, of which %d are there", length, r.size-r.off-frameHead)
	}
	if b, err = r.peek(frameHead + length); err != nil {
		return nil, err
	}
	if frameSum(b[:4], b[frameHead:]) != binary.LittleEndian.Uint32(b[4:]) {
		return nil, r.damage("the checksum is wrong")
	}
	r.off += frameHead + length
	return b[frameHead:], nil
}

// torn reports whether the damage at which r stands is what a crash leaves at the end of a journal, so that it may be cut off:
// no frame follows it. After a power cut frames may follow, if a part in between was lost; then that part has zeros up to the
// end of a sector, and no later frame says that it was synced.
func (r *frameReader) torn() (bool, error) {
	tail, err := r.peek(maxTorn)
	if err != nil {
		return false, err
	}
	next := seek(tail, 1)
	if next < 0 {
		return int64(len(tail)) == r.size-r.off, nil
	}
	if !lostPart(tail[:next], r.off) {
		return false, nil
	}
	for at := next; at >= 0; at = seek(tail, at+1) {
		payload := tail[at+frameHead:]
		if payload[0] == 'D' && int64(binary.LittleEndian.Uint64(payload[1:])) > r.off {
			return false, nil
		}
	}
	return true, nil
}

// seek returns where a frame begins at or after from, -1 if none does.
func seek(b []byte, from int) int {
	for ; from+frameHead+9 <= len(b); from++ { // no frame has fewer than nine bytes
		length := int(binary.LittleEndian.Uint32(b[from:]))
		if length < 9 || length > maxSought || length > len(b)-from-frameHead {
			continue
		}
		payload := b[from+frameHead : from+frameHead+length]
		if bytes.IndexByte([]byte("PEMDF"), payload[0]) < 0 {
			continue
		}
		if frameSum(b[from:from+4], payload) == binary.LittleEndian.Uint32(b[from+4:]) {
			return from
		}
	}
	return -1
}

// lostPart reports whether a whole sector of b, or the part of one with which b begins, is zero, which means that the disk
// never wrote it. b begins at offset off of the file.
func lostPart(b []byte, off int64) bool {
	from := 0
	for to := sector - int(off&(sector-1)); to <= len(b); from, to = to, to+sector {
		if len(bytes.Trim(b[from:to], "\x00")) == 0 {
			return true
		}
	}
	return false
}
