package shardstore

import (
	"bytes"
	"log/slog"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// fuzzTime is when the sessions of the seeds live.
var fuzzTime = time.UnixMilli(1_800_000_000_000)

func fuzzRecord(t testing.TB, user string, key coatcheck.Key, version uint64) []byte {
	t.Helper()
	var rec coatcheck.Record
	require.NoError(t, rec.Write(key, coatcheck.Header{
		Version: version, ID: coatcheck.ID{1}, IdleExpiry: fuzzTime.UnixMilli() + 1000, AbsoluteExpiry: fuzzTime.UnixMilli() + 5000,
	}, []byte(user), nil, nil, nil))
	return rec.Bytes()
}

// Extended returns a record of raw's bytes, which hold no values, in the codec's version 2.
func Extended(t testing.TB, key coatcheck.Key, raw []byte) *coatcheck.Record {
	t.Helper()
	b := append(bytes.Clone(raw), "\x00\x0D\x02\x00\x0A"+"public key"...)
	b[0] = 0xC2
	rec := &coatcheck.Record{}
	require.NoError(t, rec.Read(key, b))
	return rec
}

// seeds are payloads of frames.
func seeds(t testing.TB) [][]byte {
	t.Helper()
	ada, tag := coatcheck.Key{15: 1}, coatcheck.TagOf("ada")
	copy(ada[:], tag[:])
	nobody := coatcheck.Key{15: 2}
	put := appendPut(nil, ada, fuzzRecord(t, "ada", ada, 1))
	end := appendEnd(nil, nobody, fuzzTime.UnixMilli()+10)
	return [][]byte{
		put,
		appendPut(put, ada, Extended(t, ada, fuzzRecord(t, "ada", ada, 2)).Bytes()),
		appendPut(nil, ada, append([]byte{0xC3}, fuzzRecord(t, "ada", ada, 3)[1:]...)),
		appendPut(put, ada, fuzzRecord(t, "ada", ada, 2)),
		appendEnd(appendPut(nil, nobody, fuzzRecord(t, "", nobody, 1)), nobody, 7),
		appendMarkEntry(end, fuzzTime.UnixMilli()+60, 9, []byte("ada")),
		numberEntry('D', 20),
		numberEntry('F', 1),
	}
}

// tryFiles reads a folder with these files, and expects a whole store or an error that names one of them.
func tryFiles(t *testing.T, files map[string][]byte) {
	disk := NewPower()
	for name, b := range files {
		disk.now[filepath.Join("dir", name)] = &powerFile{p: disk, data: b}
	}
	opt, err := Options{Shards: 2, Now: func() time.Time { return fuzzTime }, Logger: slog.New(slog.DiscardHandler)}.withDefaults()
	require.NoError(t, err)
	s := newStore(opt)
	r := restore{s: s, fs: disk, dir: "dir"}
	if _, err := r.load(); err != nil {
		assert.ErrorContains(t, err, "dir/")
		return
	}
	s.sweep()
	n, err := s.Sizes()
	require.NoError(t, err)
	for i := range s.shards {
		for more := true; more; {
			more = s.shards[i].sweep(math.MaxInt64)
		}
	}
	assert.Zero(t, s.Len())
	_, err = s.Sizes()
	require.NoError(t, err, "%d sessions", n.Sessions)
}

// FuzzJournal reads arbitrary bytes behind the head of a journal.
func FuzzJournal(f *testing.F) {
	var all []byte
	for _, payload := range seeds(f) {
		f.Add(appendFrame(nil, payload))
		all = appendFrame(all, payload)
	}
	f.Add(all)
	f.Add(all[:len(all)-3])
	f.Add(append(all[:100:100], make([]byte, 1200)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		tryFiles(t, map[string][]byte{"journal-00000001": append(fileHeadOf(journalMagic, 1), b...)})
		tryFiles(t, map[string][]byte{"journal-00000001": b})
	})
}

// FuzzSnapshot reads arbitrary bytes behind the head of a snapshot.
func FuzzSnapshot(f *testing.F) {
	for _, payload := range seeds(f) {
		f.Add(appendFrame(appendFrame(nil, payload), numberEntry('F', 1)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		journal := fileHeadOf(journalMagic, 7)
		tryFiles(t, map[string][]byte{"snapshot-00000007": append(fileHeadOf(snapshotMagic, 7), b...), "journal-00000007": journal})
		tryFiles(t, map[string][]byte{"snapshot-00000007": b, "journal-00000007": journal})
	})
}

// FuzzEntries reads arbitrary bytes with a checksum that is right.
func FuzzEntries(f *testing.F) {
	for _, payload := range seeds(f) {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		frame := appendFrame(nil, payload)
		tryFiles(t, map[string][]byte{"journal-00000001": append(fileHeadOf(journalMagic, 1), frame...)})
		snapshot := append(fileHeadOf(snapshotMagic, 1), frame...)
		tryFiles(t, map[string][]byte{
			"snapshot-00000001": appendFrame(snapshot, numberEntry('F', 1)),
			"journal-00000001":  fileHeadOf(journalMagic, 1),
		})
	})
}
