package shardstore

import "github.com/coatcheck/coatcheck"

// frame collects what one operation changes and writes it to the journal as one frame: after a crash all of it is there, or
// nothing. It is guarded by its shard's lock, and its checksum is computed before any lock of the journal is taken. Without
// a journal it does nothing.
type frame struct {
	journal *journal // never changes once the store is used
	bytes   []byte   // the frame's head, which is not filled in yet, and its entries; empty between operations
}

// begin reports whether there is a journal to write to.
func (f *frame) begin() bool {
	if f.journal == nil {
		return false
	}
	if len(f.bytes) == 0 {
		f.bytes = append(f.bytes, make([]byte, frameHead)...)
	}
	return true
}

func (f *frame) put(key coatcheck.Key, record []byte) {
	if f.begin() {
		f.bytes = appendPut(f.bytes, key, record)
	}
}

func (f *frame) end(key coatcheck.Key, until int64) {
	if f.begin() {
		f.bytes = appendEnd(f.bytes, key, until)
	}
}

func (f *frame) mark(until int64, m coatcheck.Mark, user string) {
	if f.begin() {
		f.bytes = appendMarkEntry(f.bytes, until, m, []byte(user))
	}
}

// maxFrameBuffer is how large a buffer a shard keeps for its next operation.
const maxFrameBuffer = 16 << 10

// write writes the frame, and returns the count up to which the journal must be synced for the frame to survive a power
// cut. After an error the operation must change nothing.
func (f *frame) write() (upTo uint64, err error) {
	if f.journal == nil {
		return 0, nil
	}
	sealFrame(f.bytes)
	upTo, err = f.journal.write(f.bytes)
	if f.bytes = f.bytes[:0]; cap(f.bytes) > maxFrameBuffer {
		f.bytes = nil
	}
	return upTo, err
}
