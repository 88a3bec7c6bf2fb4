package redisstore_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// DOS-05: well-formed but made-up tokens evict no session from the cache.
func TestMadeUpTokens(t *testing.T) {
	t.Parallel()
	const sessions = 200
	madeUp := quickly(20_000)
	server := redistest.Start(t, "tracking-table-max-keys 1000")
	s := opened(t, redisstore.Options{URL: server.URL(), CacheTTL: time.Hour})
	recs := make([]*coatcheck.Record, sessions)
	for i := range recs {
		recs[i] = add(t, s, fmt.Sprintf("user %d", i))
		warm(t, s, recs[i])
	}
	before := s.Stats()
	parallel(32, madeUp, func(int) {
		var got coatcheck.Record
		token := coatcheck.NewToken(coatcheck.TagOf(""))
		err := s.Load(context.Background(), token.Key(), token.ID(), time.Now(), &got)
		assert.ErrorIs(t, err, coatcheck.ErrNotFound)
	})
	// Tokens with the right public half of a session do not either.
	parallel(32, madeUp/10, func(i int) {
		open, err := opens(s, recs[i%sessions], newID())
		assert.NoError(t, err)
		assert.False(t, open)
	})
	for _, rec := range recs {
		assert.True(t, s.Cached(rec.Key, rec.ID, time.Now()))
	}
	after := s.Stats()
	assert.Equal(t, before.Invalidations, after.Invalidations)
	assert.Equal(t, before.CachedRecords, after.CachedRecords)
	info := server.Must("INFO", "stats")
	assert.Contains(t, info, fmt.Sprintf("tracking_total_keys:%d\r", sessions))
}

// When more sessions are in use than Redis will track, those that it forgets are only read again.
func TestMoreSessionsThanRedisTracks(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "tracking-table-max-keys 100")
	s := opened(t, redisstore.Options{URL: server.URL()})
	recs := make([]*coatcheck.Record, max(300, quickly(1000)))
	for i := range recs {
		recs[i] = add(t, s, fmt.Sprintf("user %d", i))
		require.NoError(t, load(s, recs[i]))
	}
	for _, rec := range recs {
		warm(t, s, rec)
		require.NoError(t, end(s, rec))
		require.ErrorIs(t, load(s, rec), coatcheck.ErrEnded)
	}
}

// Bytes that are no record count as no session and are removed; those of a newer release stay.
func TestDamagedAndNewer(t *testing.T) {
	t.Parallel()
	ctx, server := context.Background(), redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	store := func(rec *coatcheck.Record, b []byte) { server.Must("SET", s.RecordKey(rec.Key), string(b), "KEEPTTL") }
	exists := func(rec *coatcheck.Record) bool {
		n, err := server.Do("EXISTS", s.RecordKey(rec.Key)).AsInt64()
		require.NoError(t, err)
		return n == 1
	}

	whole := session(t, "ada").Bytes()
	bound := extended(t, session(t, "ada")).Bytes()
	damage := map[string][]byte{
		"empty": {}, "text": []byte("text"), "cut off": whole[:93], "cut in the header": whole[:20],
		"an older codec's": append([]byte{0xBF}, whole[1:]...), "a long tombstone": {0xC0, 0},
		"version 2, cut in the header": bound[:20], "beyond versions": append([]byte{0xD2}, whole[1:]...),
	}
	broken := func(b []byte) *coatcheck.Record {
		rec := add(t, s, "ada")
		warm(t, s, rec)
		store(rec, b)
		redistest.Eventually(t, time.Minute, "the news", func() bool { return !s.Cached(rec.Key, rec.ID, time.Now()) })
		return rec
	}
	for name, b := range damage {
		rec := broken(b)
		require.ErrorIs(t, swap(s, next(t, rec)), coatcheck.ErrNotFound, name)
		require.ErrorIs(t, end(s, rec), coatcheck.ErrNotFound, name)
		require.ErrorIs(t, load(s, rec), coatcheck.ErrDamaged, name)
		assert.False(t, exists(rec), name)
		require.ErrorIs(t, load(s, rec), coatcheck.ErrNotFound, name)
	}
	// Where only the tail is wrong, a script does not notice.
	for _, tail := range [][]byte{append(bytes.Clone(whole), 1, 2), bound[:len(bound)-1]} {
		rec := broken(tail)
		require.ErrorIs(t, load(s, rec), coatcheck.ErrDamaged)
		assert.False(t, exists(rec))
		rec = broken(tail)
		require.ErrorIs(t, end(s, rec), coatcheck.ErrNotFound)
		require.ErrorIs(t, load(s, rec), coatcheck.ErrEnded)
	}

	for name, b := range damage {
		user := "user: " + name
		kept, ended, rec := add(t, s, user), add(t, s, user), add(t, s, user)
		store(rec, b)
		n, err := s.EndUser(ctx, user, kept.Key, false, time.Now(), time.Now().Add(grave))
		require.NoError(t, err)
		assert.Equal(t, 1, n, "%s: it is no session", name)
		assert.False(t, exists(rec), name)
		require.ErrorIs(t, load(s, ended), coatcheck.ErrEnded)
		require.NoError(t, load(s, kept))
	}

	rec := add(t, s, "bob")
	newer := append([]byte{0xC3}, rec.Bytes()[1:]...)
	store(rec, newer)
	require.ErrorIs(t, load(s, rec), coatcheck.ErrNewer)
	require.ErrorIs(t, swap(s, next(t, rec)), coatcheck.ErrNewer)
	require.ErrorIs(t, end(s, rec), coatcheck.ErrNewer)
	require.NoError(t, s.List(ctx, "bob", time.Now(), func(*coatcheck.Record) bool {
		assert.Fail(t, "a record that nobody here can read is listed")
		return true
	}))
	assert.True(t, exists(rec), "it is the newer release's")
	n, err := s.EndUser(ctx, "bob", coatcheck.Key{}, true, time.Now(), time.Now().Add(grave))
	require.NoError(t, err)
	assert.Equal(t, 1, n, "but the end of all sessions is the end of this one")
	require.ErrorIs(t, load(s, rec), coatcheck.ErrEnded)
}

// A call that only a defect of the caller causes returns an error that is none of the contract's sentinels, and changes
// nothing.
func TestDefectsAreRefused(t *testing.T) {
	ctx, server := context.Background(), redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	create := func(rec *coatcheck.Record) error {
		_, err := s.Create(ctx, rec, coatcheck.CreateOptions{}, time.Now())
		return err
	}
	unwritten := session(t, "ada")
	unwritten.Version++
	noKey, wrongTag := session(t, ""), session(t, "ada")
	noKey.Key = coatcheck.Key{}
	tag := coatcheck.TagOf("bob")
	copy(wrongTag.Key[:], tag[:])
	for name, rec := range map[string]*coatcheck.Record{
		"the zero Record": {}, "a header that is not written": unwritten, "another user's tag": wrongTag, "the zero Key": noKey,
	} {
		err := create(rec)
		require.Error(t, err, name)
		assert.NotErrorIs(t, err, coatcheck.ErrUnavailable, name)
	}
	for _, key := range allKeys(t, server) {
		assert.Contains(t, key, "}:r:", "nothing but the receipt of the store's start")
	}

	rec := add(t, s, "ada")
	swapTo := func(version uint64, user string, edits ...func(*coatcheck.Header)) error {
		h := rec.Header
		h.Version = version
		for _, edit := range edits {
			edit(&h)
		}
		var next, cur coatcheck.Record
		require.NoError(t, next.Write(rec.Key, h, []byte(user), nil, nil, nil))
		return s.Swap(ctx, &next, rec.Version, time.Now(), &cur)
	}
	require.Error(t, swapTo(1, "ada"), "the same version again")
	require.Error(t, swapTo(3, "ada"), "a version left out")
	require.Error(t, swapTo(2, "bob"), "another user")
	require.Error(t, swapTo(2, ""), "no user")
	require.Error(t, swapTo(2, "ada", func(h *coatcheck.Header) { h.CreatedAt++ }), "another time of creation")
	require.Error(t, swapTo(2, "ada", renewed, func(h *coatcheck.Header) { h.CreatedAt++ }), "another time of creation, renewed")
	require.NoError(t, swapTo(2, "ada"))

	itself := session(t, "ada")
	_, err := s.Create(ctx, itself, coatcheck.CreateOptions{Replace: itself.Key, Until: time.Now().Add(grave)}, time.Now())
	require.NoError(t, err)
	require.NoError(t, load(s, itself), "a session replaces itself by nothing")
	n, err := s.EndUser(ctx, strings.Repeat("u", coatcheck.MaxUserID+1), coatcheck.Key{}, true, time.Now(), time.Now().Add(grave))
	require.NoError(t, err)
	require.Zero(t, n)
	for _, key := range allKeys(t, server) {
		assert.NotContains(t, key, "}:m:", "nobody with such a name logs in")
	}
}

// renewed is a Swap's edit: it pushes the expiry out.
func renewed(h *coatcheck.Header) { h.IdleExpiry += 60_000 }

// grown returns a record with a large value, to be put in the place of rec.
func grown(t testing.TB, rec *coatcheck.Record) *coatcheck.Record {
	t.Helper()
	h := rec.Header
	h.Version++
	rec2 := &coatcheck.Record{}
	require.NoError(t, rec2.Write(rec.Key, h, rec.User(), rec.IP().AsSlice(), rec.UserAgent(), append([]byte("\x01v\x03\xE8"), make([]byte, 1000)...)))
	return rec2
}

// When Redis' memory is full, no session can begin, and sessions are renewed and end as before (CASES A13).
func TestFullMemory(t *testing.T) {
	ctx, server := context.Background(), redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	recs := make([]*coatcheck.Record, 6)
	for i := range recs {
		recs[i] = add(t, s, fmt.Sprintf("user %d", i))
	}
	server.Must("CONFIG", "SET", "maxmemory", "1")
	rec := session(t, "ada")
	_, err := s.Create(ctx, rec, coatcheck.CreateOptions{}, time.Now())
	require.ErrorIs(t, err, coatcheck.ErrUnavailable)
	require.ErrorIs(t, load(s, rec), coatcheck.ErrNotFound)
	require.ErrorIs(t, swap(s, grown(t, recs[5])), coatcheck.ErrUnavailable)
	require.NoError(t, swap(s, next(t, recs[5], renewed)), "a renewal makes room for itself")
	require.NoError(t, load(s, next(t, recs[5], renewed)))
	require.NoError(t, load(s, recs[0]))
	require.NoError(t, end(s, recs[0]))
	require.ErrorIs(t, load(s, recs[0]), coatcheck.ErrEnded)
	require.ErrorIs(t, end(s, recs[0]), coatcheck.ErrNotFound)
	require.NoError(t, endUser(s, "user 1", coatcheck.Key{}))
	require.ErrorIs(t, load(s, recs[1]), coatcheck.ErrEnded)
	require.NoError(t, endUser(s, "user 2", recs[2].Key))
	require.NoError(t, load(s, recs[2]))
	mark, err := s.Mark(ctx, "user 1", time.Now())
	require.NoError(t, err)
	assert.NotZero(t, mark)
}

// aclUser returns the user that docs/redis.md tells an operator to create.
func aclUser(t testing.TB) string {
	t.Helper()
	doc, err := os.ReadFile("../docs/redis.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(doc), "ACL SETUSER coatcheck ")
	require.True(t, ok)
	rules, _, _ := strings.Cut(rest, "```")
	return strings.Join(strings.Fields(strings.Replace(rules, ">PASSWORD", ">s3cret", 1)), " ")
}

// RED-07: the store works with a Redis user that has few permissions; TestConformanceOnCluster covers a Cluster.
func TestACLUser(t *testing.T) {
	t.Parallel()
	primary, _ := redistest.StartReplicated(t, durable, "user coatcheck "+aclUser(t))
	url := as(primary.URL())
	assert.Empty(t, logged(t, redisstore.Options{URL: url}), "nothing to warn of")
	conform(t, redisstore.Options{URL: url})
	t.Run("waiting for replicas", func(t *testing.T) {
		s := opened(t, redisstore.Options{URL: url, WaitReplicas: 1})
		require.NoError(t, end(s, add(t, s, "ada")))
	})
	nothingRefused(t, primary)

	s := opened(t, redisstore.Options{URL: url})
	for _, command := range []string{"FLUSHALL", "KEYS *", "CONFIG GET *", "ACL LIST", "MONITOR", "SHUTDOWN", "GET other:key"} {
		err := s.Client().Do(context.Background(), s.Client().B().Arbitrary(strings.Fields(command)...).Build()).Error()
		assert.ErrorContains(t, err, "NOPERM", command)
	}
}

// as returns the URL for that user.
func as(url string) string { return strings.Replace(url, "redis://", "redis://coatcheck:s3cret@", 1) }

func nothingRefused(t *testing.T, server *redistest.Server) {
	t.Helper()
	log, err := server.Do("ACL", "LOG").ToArray()
	require.NoError(t, err)
	assert.Empty(t, log)
}
