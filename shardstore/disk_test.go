package shardstore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// onDisk opens a store on a folder. Its clock stands at t0.
func onDisk(t testing.TB, dir string, edits ...func(*shardstore.Options)) *shardstore.Store {
	t.Helper()
	s, err := tryOnDisk(dir, edits...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

func tryOnDisk(dir string, edits ...func(*shardstore.Options)) (*shardstore.Store, error) {
	opt := shardstore.Options{Dir: dir, JanitorEvery: asleep, Now: func() time.Time { return t0 }, Logger: slog.New(slog.DiscardHandler)}
	for _, edit := range edits {
		edit(&opt)
	}
	return shardstore.New(opt)
}

func end(t testing.TB, s *shardstore.Store, rec *coatcheck.Record) {
	t.Helper()
	var last coatcheck.Record
	require.NoError(t, s.End(context.Background(), rec.Key, rec.UserID(), t0, t0.Add(10*time.Second), &last))
}

func TestRestore(t *testing.T) {
	for name, between := range map[string]func(t *testing.T, s *shardstore.Store){
		"from the journal":  func(*testing.T, *shardstore.Store) {},
		"from the snapshot": func(t *testing.T, s *shardstore.Store) { require.NoError(t, s.Snapshot()) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := onDisk(t, dir)
			ctx := context.Background()
			kept, ended, anonymous := add(t, s, "ada", t0, time.Hour), add(t, s, "ada", t0, time.Hour), add(t, s, "", t0, time.Hour)
			renewed, expired := add(t, s, "bob", t0, time.Minute), add(t, s, "bob", t0, time.Minute)
			shortened := add(t, s, "bob", t0, time.Hour)
			end(t, s, ended)
			revoked := add(t, s, "cyd", t0, time.Hour)
			_, err := s.EndUser(ctx, "cyd", coatcheck.Key{}, true, t0, t0.Add(10*time.Second))
			require.NoError(t, err)
			mark, err := s.Mark(ctx, "cyd", t0)
			require.NoError(t, err)
			between(t, s)
			require.NoError(t, renew(t, s, renewed, t0, time.Hour))
			require.NoError(t, renew(t, s, shortened, t0, time.Second))
			pushedOut, newest := add(t, s, "dot", t0.Add(-time.Second), time.Hour), session(t, "dot", t0, time.Hour)
			_, err = s.Create(ctx, newest, coatcheck.CreateOptions{Limit: 1, Until: t0.Add(10 * time.Second)}, t0)
			require.NoError(t, err)
			require.NoError(t, s.Close())

			later := t0.Add(time.Minute)
			n, err := shardstore.Verify(dir)
			require.NoError(t, err)
			assert.Zero(t, n, "by the real clock all of them expired long ago")
			for range 2 { // a restored store can be restored again
				s = onDisk(t, dir, func(opt *shardstore.Options) { opt.Now = func() time.Time { return later } })
				assert.Equal(t, shardstore.Sizes{Sessions: 4, Users: 3, Indexed: 3}, sizes(t, s))
				for _, rec := range []*coatcheck.Record{kept, anonymous, renewed, newest} {
					require.NoError(t, load(s, rec.Key, later))
				}
				for _, rec := range []*coatcheck.Record{ended, expired, shortened, revoked, pushedOut} {
					require.ErrorIs(t, load(s, rec.Key, later), coatcheck.ErrNotFound)
				}
				var got coatcheck.Record
				require.NoError(t, s.Load(ctx, renewed.Key, renewed.ID, later, &got))
				assert.Equal(t, uint64(2), got.Version)
				require.NoError(t, s.Close())
			}

			s = onDisk(t, dir) // its clock is at a time at which tombstones and marks still stand
			require.ErrorIs(t, load(s, ended.Key, t0), coatcheck.ErrEnded)
			require.ErrorIs(t, load(s, pushedOut.Key, t0), coatcheck.ErrEnded)
			again, err := s.Mark(ctx, "cyd", t0)
			require.NoError(t, err)
			assert.Equal(t, mark, again)
		})
	}
}

// An extended record comes back byte for byte, from the journal and from the snapshot.
func TestRestoreExtended(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	s := onDisk(t, dir)
	bare := session(t, "ada", t0, time.Hour)
	rec := shardstore.Extended(t, bare.Key, bare.Bytes())
	_, err := s.Create(ctx, rec, coatcheck.CreateOptions{}, t0)
	require.NoError(t, err)
	var next, cur coatcheck.Record
	h := rec.Header
	h.Version++
	require.NoError(t, next.Rewrite(rec, h, nil))
	next.SetLastIP(netip.MustParseAddr("192.0.2.9"))
	require.NoError(t, s.Swap(ctx, &next, 1, t0, &cur))
	ended := session(t, "ada", t0, time.Hour)
	_, err = s.Create(ctx, shardstore.Extended(t, ended.Key, ended.Bytes()), coatcheck.CreateOptions{}, t0)
	require.NoError(t, err)
	end(t, s, ended)
	for range 2 {
		require.NoError(t, s.Close())
		s = onDisk(t, dir)
		var got coatcheck.Record
		require.NoError(t, s.Load(ctx, rec.Key, rec.ID, t0, &got))
		assert.Equal(t, next.Bytes(), got.Bytes())
		require.ErrorIs(t, load(s, ended.Key, t0), coatcheck.ErrEnded)
		require.NoError(t, s.Snapshot())
	}
}

func TestSnapshotsReplaceJournals(t *testing.T) {
	dir := t.TempDir()
	s := onDisk(t, dir)
	rec := add(t, s, "ada", t0, time.Hour)
	for range 3 {
		end(t, s, add(t, s, "ada", t0, time.Hour))
		require.NoError(t, s.Snapshot())
	}
	assert.Equal(t, []string{"journal-00000004", "lock", "snapshot-00000004"}, filesIn(t, dir))
	for _, name := range filesIn(t, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), name)
	}
	require.NoError(t, s.Close())
	s = onDisk(t, dir)
	require.NoError(t, load(s, rec.Key, t0))
	assert.Equal(t, 1, s.Len())
}

func filesIn(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestOneStoreOnAFolder(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, s *shardstore.Store, dir string){
		"as it is": func(*testing.T, *shardstore.Store, string) {},
		"without its lock file": func(t *testing.T, _ *shardstore.Store, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "lock")))
		},
		"without its lock file, after a snapshot": func(t *testing.T, s *shardstore.Store, dir string) {
			add(t, s, "ada", t0, time.Hour)
			require.NoError(t, s.Snapshot())
			require.NoError(t, s.SyncNow()) // the old journal is closed
			require.NoError(t, os.Remove(filepath.Join(dir, "lock")))
		},
		"without its lock file, in the middle of a snapshot": func(t *testing.T, s *shardstore.Store, dir string) {
			add(t, s, "ada", t0, time.Hour)
			require.NoError(t, s.Rotate())
			require.NoError(t, os.Remove(filepath.Join(dir, "lock")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := onDisk(t, dir)
			harm(t, s, dir)
			_, err := tryOnDisk(dir)
			require.ErrorIs(t, err, shardstore.ErrInUse)
			_, err = shardstore.Verify(dir)
			require.ErrorIs(t, err, shardstore.ErrInUse)
			rec := add(t, s, "ada", t0, time.Hour) // the store goes on
			require.NoError(t, s.Close())
			require.NoError(t, load(onDisk(t, dir), rec.Key, t0))
		})
	}
}

// journalOf writes a few sessions to a new folder and returns the journal's name, and where its frames begin.
func journalOf(t *testing.T, dir string) (name string, recs []*coatcheck.Record, begins []int64) {
	t.Helper()
	s := onDisk(t, dir, func(opt *shardstore.Options) { opt.FsyncEvery = time.Hour })
	name = filepath.Join(dir, "journal-00000001")
	for range 10 {
		begins = append(begins, s.Stats().JournalBytes)
		recs = append(recs, add(t, s, "ada", t0, time.Hour))
	}
	begins = append(begins, s.Stats().JournalBytes)
	s.Abandon()
	return name, recs, begins
}

// A crash leaves the last frame torn, at whatever byte.
func TestTornEnd(t *testing.T) {
	dir := t.TempDir()
	name, recs, begins := journalOf(t, dir)
	whole, err := os.ReadFile(name)
	require.NoError(t, err)
	last := begins[len(begins)-2]
	for _, cut := range []int64{last + 1, last + 7, last + 8, last + 50, last + 100} {
		for what, torn := range map[string][]byte{
			"cut off":        whole[:cut],
			"zeros for data": append(bytes.Clone(whole[:cut]), make([]byte, 3000)...),
		} {
			require.NoError(t, os.WriteFile(name, torn, 0o600))
			var log bytes.Buffer
			s := onDisk(t, dir, func(opt *shardstore.Options) { opt.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			assert.Equal(t, len(recs)-1, s.Len(), what)
			assert.Contains(t, log.String(), fmt.Sprintf("offset=%d", last), what)
			more := add(t, s, "ada", t0, time.Hour)
			require.NoError(t, s.Close())
			s = onDisk(t, dir)
			require.NoError(t, load(s, more.Key, t0), "what came after the restart")
			assert.Equal(t, len(recs), s.Len(), what)
			require.NoError(t, s.Close())
		}
	}
}

func TestDamage(t *testing.T) {
	for name, harm := range map[string]func(b []byte, begins []int64) []byte{
		"a flipped bit": func(b []byte, begins []int64) []byte {
			b[begins[3]+30] ^= 4
			return b
		},
		"a length that leads past the end": func(b []byte, begins []int64) []byte {
			b[begins[3]+2] = 0x7f
			return b
		},
		"a length of zero": func(b []byte, begins []int64) []byte {
			clear(b[begins[3] : begins[3]+4])
			return b
		},
		"an entry cut out in part": func(b []byte, begins []int64) []byte {
			return append(b[:begins[3]+9], b[begins[4]:]...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file, _, begins := journalOf(t, dir)
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			harmed := harm(bytes.Clone(b), begins)
			require.NoError(t, os.WriteFile(file, harmed, 0o600))
			_, err = tryOnDisk(dir)
			require.ErrorContains(t, err, file)
			require.ErrorContains(t, err, fmt.Sprintf("offset %d", begins[3]))
			_, verr := shardstore.Verify(dir)
			require.ErrorContains(t, verr, file)
			after, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Equal(t, harmed, after, "nothing is changed")
		})
	}
	t.Run("a foreign file", func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "journal-00000001")
		require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("some other program's\n", 10)), 0o600))
		_, err := tryOnDisk(dir)
		require.ErrorContains(t, err, file)
		require.ErrorContains(t, err, "offset 0")
	})
	t.Run("a damaged snapshot", func(t *testing.T) {
		dir := t.TempDir()
		s := onDisk(t, dir)
		for i := range 10 {
			add(t, s, fmt.Sprint("ada", i), t0, time.Hour)
		}
		require.NoError(t, s.Snapshot())
		require.NoError(t, s.Close())
		file := filepath.Join(dir, "snapshot-00000002")
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		for cut := range len(b) {
			require.NoError(t, os.WriteFile(file, b[:cut], 0o600))
			_, err = tryOnDisk(dir)
			require.ErrorContains(t, err, file, "cut at %d", cut)
		}
		const head = 20 // of the file; a frame's has 8 bytes, which begin with the length of the rest
		for at, size := head, 0; at < len(b); at += size {
			size = 8 + int(binary.LittleEndian.Uint32(b[at:]))
			require.NoError(t, os.WriteFile(file, slices.Concat(b[:at], b[at+size:]), 0o600))
			_, err = tryOnDisk(dir)
			require.ErrorContains(t, err, file, "without the frame at %d", at)
			_, err = shardstore.Verify(dir)
			require.ErrorContains(t, err, file, "without the frame at %d", at)
		}
	})
	t.Run("a journal without a whole head beside its snapshot", func(t *testing.T) {
		dir := t.TempDir()
		s := onDisk(t, dir)
		rec := add(t, s, "ada", t0, time.Hour)
		require.NoError(t, s.Snapshot())
		end(t, s, rec)
		require.NoError(t, s.Close())
		file := filepath.Join(dir, "journal-00000002")
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		for cut := range 20 {
			require.NoError(t, os.WriteFile(file, b[:cut], 0o600))
			_, err = tryOnDisk(dir)
			require.ErrorContains(t, err, file, "cut at %d", cut)
			_, err = shardstore.Verify(dir)
			require.ErrorContains(t, err, file, "cut at %d", cut)
		}
		// A crash that comes when the next snapshot begins leaves such a journal, too.
		require.NoError(t, os.WriteFile(file, b, 0o600))
		for cut := range 20 {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "journal-00000003"), b[:cut], 0o600))
			n, err := shardstore.Verify(dir)
			require.NoError(t, err, "cut at %d", cut)
			assert.Zero(t, n)
			s, err := tryOnDisk(dir)
			require.NoError(t, err, "cut at %d", cut)
			require.Error(t, load(s, rec.Key, t0), "it was ended")
			require.NoError(t, s.Close())
		}
	})
	t.Run("a missing journal", func(t *testing.T) {
		dir := t.TempDir()
		s := onDisk(t, dir)
		add(t, s, "ada", t0, time.Hour)
		require.NoError(t, s.Snapshot())
		require.NoError(t, s.Close())
		require.NoError(t, os.Remove(filepath.Join(dir, "journal-00000002")))
		_, err := tryOnDisk(dir)
		require.ErrorContains(t, err, "journal-00000002 is missing")
	})
}

func TestDirMistakes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := tryOnDisk(file)
	require.Error(t, err)
	_, err = shardstore.Verify(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = shardstore.New(shardstore.Options{SnapshotBytes: -1})
	require.Error(t, err)
	assert.False(t, errors.Is(err, coatcheck.ErrUnavailable))
}

// Verify leaves a folder unchanged: a lock file that root made there would keep the server out.
func TestVerifyChangesNothing(t *testing.T) {
	dir := t.TempDir()
	_, err := shardstore.Verify(dir)
	require.ErrorIs(t, err, shardstore.ErrNoJournal)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)

	s, err := shardstore.New(shardstore.Options{Dir: dir})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	n, err := shardstore.Verify(dir)
	require.NoError(t, err)
	assert.Zero(t, n)
	next := filepath.Join(dir, "journal-00000002") // as a crash leaves it that comes when the first snapshot begins
	require.NoError(t, os.WriteFile(next, nil, 0o600))
	_, err = shardstore.Verify(dir)
	require.NoError(t, err)
	require.NoError(t, os.Remove(next))
	for _, size := range []int64{19, 1, 0} { // an incomplete copy
		require.NoError(t, os.Truncate(filepath.Join(dir, "journal-00000001"), size))
		_, err = shardstore.Verify(dir)
		require.ErrorIs(t, err, shardstore.ErrNoJournal, size)
	}
}
