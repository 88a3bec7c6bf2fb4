package shardstore

import "github.com/coatcheck/coatcheck"

// pen writes what one operation changes to the journal, in one frame: all of it survives a crash or nothing. It is guarded
// by its shard's lock. Without a journal it does nothing.
type pen struct {
	journal *journal // never changes once the store is used
	entries []byte
}

func (p *pen) put(key coatcheck.Key, record []byte) {
	if p.journal != nil {
		p.entries = appendPut(p.entries, key, record)
	}
}

func (p *pen) end(key coatcheck.Key, until int64) {
	if p.journal != nil {
		p.entries = appendEnd(p.entries, key, until)
	}
}

func (p *pen) leave(until int64, m coatcheck.Mark, user string) {
	if p.journal != nil {
		p.entries = appendLeave(p.entries, until, m, []byte(user))
	}
}

// maxPen is how large a buffer a shard keeps for its next operation.
const maxPen = 16 << 10

// write writes it all, and returns up to where the journal must be synced for it to last. After an error nothing may
// happen of what was to be written.
func (p *pen) write() (upTo uint64, err error) {
	if p.journal == nil {
		return 0, nil
	}
	upTo, err = p.journal.write(p.entries)
	if p.entries = p.entries[:0]; cap(p.entries) > maxPen {
		p.entries = nil
	}
	return upTo, err
}
