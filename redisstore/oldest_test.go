package redisstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// The limit ends the oldest session that lives although its script looks at all of a user's sessions only once in many logins,
// whichever sessions end, expire, are renewed or shortened meanwhile, and even if a node's clock is behind.
func TestLimitEndsTheOldest(t *testing.T) {
	for range max(1, quickly(5)) {
		m := &limitModel{t: t, seed: rand.Uint64(), server: redistest.Start(t), limit: 20, now: time.Now().Add(time.Hour)}
		m.random = rand.New(rand.NewPCG(m.seed, 0)) //nolint:gosec // the sequence must be repeatable
		m.store = opened(t, redisstore.Options{URL: m.server.URL()})
		t.Logf("seed %d", m.seed)
		for i := range 400 {
			m.step(i)
		}
		assert.ElementsMatch(t, keysOf(m.live), m.listed())
	}
}

// limitModel is what a user's sessions should be. Its time runs in the future, so that Redis' own clock removes none of them.
type limitModel struct {
	t      *testing.T
	seed   uint64
	random *rand.Rand
	server *redistest.Server
	store  *redisstore.Store
	limit  int
	now    time.Time
	live   []*coatcheck.Record // the oldest first
}

func (m *limitModel) step(i int) {
	m.now = m.now.Add(time.Second)
	m.live = slices.DeleteFunc(m.live, func(rec *coatcheck.Record) bool { return !rec.Lives(m.now) })
	born, life := m.now, 10*time.Minute
	switch m.random.IntN(16) {
	case 0:
		born = born.Add(-time.Duration(m.random.IntN(300)) * time.Second) // a clock that is behind
	case 1, 2:
		if n := m.random.IntN(len(m.live) + 1); n < len(m.live) {
			var last coatcheck.Record
			require.NoError(m.t, m.store.End(m.t.Context(), m.live[n].Key, "ada", m.now, m.now.Add(grave), &last))
			m.live = slices.Delete(m.live, n, n+1)
		}
	case 3: // as the script does by Redis' clock
		if i > 0 {
			m.server.Must("ZREMRANGEBYSCORE", keyWith(m.t, m.server, "}:u:"), "-inf", strconv.FormatInt(m.now.UnixMilli(), 10))
		}
	case 4:
		life = time.Duration(1+m.random.IntN(30)) * time.Second
	case 5, 6:
		if len(m.live) > 0 {
			n := m.random.IntN(len(m.live))
			other := next(m.t, m.live[n], func(h *coatcheck.Header) {
				h.IdleExpiry = m.now.Add(time.Duration(1+m.random.IntN([]int{15, 600}[m.random.IntN(2)])) * time.Second).UnixMilli()
				h.AbsoluteExpiry = max(h.IdleExpiry, h.AbsoluteExpiry)
			})
			require.NoError(m.t, swapAt(m.store, other, m.now))
			m.live[n] = other
		}
	}
	rec := session(m.t, "ada")
	h := rec.Header
	h.CreatedAt, h.IdleExpiry, h.AbsoluteExpiry = born.UnixMilli(), m.now.Add(life).UnixMilli(), m.now.Add(life).UnixMilli()
	require.NoError(m.t, rec.Write(rec.Key, h, []byte("ada"), nil, nil, nil))
	ended, err := m.store.Create(m.t.Context(), rec, coatcheck.CreateOptions{Limit: m.limit, Until: m.now.Add(grave)}, m.now)
	require.NoError(m.t, err)
	if len(m.live) == m.limit {
		require.Equal(m.t, 1, ended, "login %d", i)
		require.ErrorIs(m.t, load(m.store, m.live[0]), coatcheck.ErrEnded, "login %d", i)
		m.live = m.live[1:]
	} else {
		require.Zero(m.t, ended, "login %d", i)
	}
	m.live = append(m.live, rec)
	slices.SortFunc(m.live, func(a, b *coatcheck.Record) int {
		if a.CreatedAt != b.CreatedAt {
			return int(a.CreatedAt - b.CreatedAt)
		}
		return slices.Compare(a.Key[:], b.Key[:])
	})
	if i%20 == 0 {
		assert.ElementsMatch(m.t, keysOf(m.live), m.listed(), "login %d", i)
	}
}

func (m *limitModel) listed() (keys []coatcheck.Key) {
	require.NoError(m.t, m.store.List(m.t.Context(), "ada", m.now, func(rec *coatcheck.Record) bool {
		keys = append(keys, rec.Key)
		return true
	}))
	return keys
}

// Of a user's logins at the limit one in a hundred looks at all of the sessions, while none of them expires.
func TestLooksAreRare(t *testing.T) {
	const limit, logins = 100, 400
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	now := time.Now()
	login := func() {
		now = now.Add(time.Millisecond)
		loginAt(t, s, now, life, limit)
	}
	for range limit {
		login()
	}
	for _, key := range allKeys(t, server) {
		assert.NotRegexp(t, `}:[mn]:`, key, "no list below the limit")
	}
	server.Must("CONFIG", "RESETSTAT")
	for range logins {
		login()
		assert.Greater(t, len(server.Must("GET", keyWith(t, server, "}:m:"))), 80, "a release before this one expects a session in each list")
	}
	assert.Equal(t, 1+logins/limit, looks(t, server), "one for each look, and at the first one more, to see whether any has expired")
	for _, key := range allKeys(t, server) {
		if strings.Contains(key, "}:m:") || strings.Contains(key, "}:n:") {
			ttl, err := server.Do("PTTL", key).AsInt64()
			require.NoError(t, err)
			assert.InDelta(t, life.Milliseconds(), ttl, 60_000, "a list stays until the first session expires")
		}
	}
}

// A session that has expired does not make the logins after that look at all sessions until it is removed by chance.
func TestNoLooksForTheExpired(t *testing.T) {
	const limit = 20
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	login := func(life time.Duration) *coatcheck.Record {
		nextMillisecond()
		rec, _ := loginAt(t, s, time.Now(), life, limit)
		return rec
	}
	for range limit - 1 {
		login(life)
	}
	expires := login(time.Second)
	redistest.Eventually(t, 20*time.Second, "the session to expire", func() bool { return load(s, expires) != nil })
	server.Must("CONFIG", "RESETSTAT")
	for range 8 {
		login(life)
	}
	assert.Equal(t, 3, looks(t, server), "one at each of the first two logins, to see whether any has expired, and a look at the second")
}

// looks returns how often Redis was asked for the sessions that expire in a time.
func looks(t *testing.T, server *redistest.Server) int {
	t.Helper()
	calls := regexp.MustCompile(`cmdstat_zrangebyscore:calls=(\d+),`).FindStringSubmatch(server.Must("INFO", "commandstats"))
	require.NotNil(t, calls)
	n, err := strconv.Atoi(calls[1])
	require.NoError(t, err)
	return n
}

// A list that a release before this one has left is not used, and gives way to one of ours.
func TestListOfAnotherRelease(t *testing.T) {
	const limit = 20
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	var recs []*coatcheck.Record
	login := func() int {
		nextMillisecond()
		rec, ended := loginAt(t, s, time.Now(), life, limit)
		recs = append(recs, rec)
		return ended
	}
	for range limit + 1 {
		login()
	}
	list := strings.Repeat("\x00", 16)
	for _, rec := range recs[10:14] { // not the oldest
		list += fmt.Sprintf("%012x%s", rec.CreatedAt, rec.Key)
	}
	server.Must("SET", keyWith(t, server, "}:m:"), list)
	for i := range 3 {
		assert.Equal(t, 1, login())
		require.ErrorIs(t, load(s, recs[1+i]), coatcheck.ErrEnded)
	}
}

// keyWith returns the first key that has this in it.
func keyWith(t *testing.T, server *redistest.Server, kind string) string {
	t.Helper()
	keys := allKeys(t, server)
	i := slices.IndexFunc(keys, func(key string) bool { return strings.Contains(key, kind) })
	require.GreaterOrEqual(t, i, 0, "%s in %q", kind, keys)
	return keys[i]
}

// A user with more sessions than a number of Lua can tell apart together with their times logs in under a lower limit.
func TestLimitFarBelowTheSessions(t *testing.T) {
	t.Parallel()
	const many, limit = 5000, 5
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	begin := time.Now().Add(-time.Hour)
	login := func(i, limit int) (*coatcheck.Record, int) {
		rec := session(t, "eve")
		h := rec.Header
		h.CreatedAt = begin.Add(time.Duration(i) * time.Millisecond).UnixMilli()
		require.NoError(t, rec.Write(rec.Key, h, []byte("eve"), nil, nil, nil))
		ended, err := s.Create(context.Background(), rec, coatcheck.CreateOptions{Limit: limit, Until: time.Now().Add(grave)}, time.Now())
		require.NoError(t, err)
		return rec, ended
	}
	var last []*coatcheck.Record
	for i := range many {
		rec, _ := login(i, 0)
		if i > many-limit {
			last = append(last, rec)
		}
	}
	rec, ended := login(many, limit)
	assert.Equal(t, many-limit+1, ended)
	assert.ElementsMatch(t, keysOf(append(last, rec)), listed(t, s, "eve"))
}

func keysOf(recs []*coatcheck.Record) (keys []coatcheck.Key) {
	for _, rec := range recs {
		keys = append(keys, rec.Key)
	}
	return keys
}

func listed(t *testing.T, s *redisstore.Store, user string) (keys []coatcheck.Key) {
	t.Helper()
	require.NoError(t, s.List(context.Background(), user, time.Now(), func(rec *coatcheck.Record) bool {
		keys = append(keys, rec.Key)
		return true
	}))
	return keys
}

// The list of the oldest sessions is stored beside the mark, and does not interfere with it.
func TestOldestBesideTheMark(t *testing.T) {
	const limit = 20
	ctx, server := context.Background(), redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	login := func(mark coatcheck.Mark) error {
		opt := coatcheck.CreateOptions{Mark: mark, Limit: limit, Until: time.Now().Add(grave)}
		_, err := s.Create(ctx, session(t, "ada"), opt, time.Now())
		return err
	}
	for range limit + 1 {
		require.NoError(t, login(0))
	}
	mark, err := s.Mark(ctx, "ada", time.Now())
	require.NoError(t, err)
	assert.Zero(t, mark, "a list of sessions is no mark")
	require.NoError(t, login(0))
	require.NoError(t, login(12345))

	require.NoError(t, endUser(s, "ada", coatcheck.Key{}))
	require.ErrorIs(t, login(0), coatcheck.ErrRevoked)
	mark, err = s.Mark(ctx, "ada", time.Now())
	require.NoError(t, err)
	for range limit + 5 {
		require.NoError(t, login(mark))
		require.ErrorIs(t, login(0), coatcheck.ErrRevoked, "the mark stays, however many sessions there are")
	}
	assert.Len(t, listed(t, s, "ada"), limit)
}

// The index stays as long as the session that lives longest, in whatever order they begin.
func TestIndexStaysForTheLast(t *testing.T) {
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	begin := func(life time.Duration) *coatcheck.Record {
		rec := session(t, "ada")
		h := rec.Header
		h.IdleExpiry = time.Now().Add(life).UnixMilli()
		h.AbsoluteExpiry = h.IdleExpiry
		require.NoError(t, rec.Write(rec.Key, h, []byte("ada"), nil, nil, nil))
		_, err := s.Create(context.Background(), rec, coatcheck.CreateOptions{}, time.Now())
		require.NoError(t, err)
		return rec
	}
	ttl := func() time.Duration {
		ms, err := server.Do("PTTL", keyWith(t, server, "}:u:")).AsInt64()
		require.NoError(t, err)
		return time.Duration(ms) * time.Millisecond
	}
	const late = 60 // seconds, on a busy machine
	for _, step := range []struct{ life, want time.Duration }{{time.Hour, time.Hour}, {time.Minute, time.Hour}, {2 * time.Hour, 2 * time.Hour}} {
		begin(step.life)
		assert.InDelta(t, step.want.Seconds(), ttl().Seconds(), late)
	}
	rec := begin(time.Minute)
	require.NoError(t, swap(s, next(t, rec, func(h *coatcheck.Header) { h.IdleExpiry += 1000; h.AbsoluteExpiry += 1000 })))
	assert.InDelta(t, 7200, ttl().Seconds(), late)
}

// A login does not make room for itself in a Redis whose memory is full by deleting the list of the oldest sessions.
func TestFullMemoryRefusesALoginThatIsOlderThanTheList(t *testing.T) {
	t.Parallel()
	const limit = 20
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	login := func(born time.Time) (*coatcheck.Record, error) {
		rec := session(t, "ada")
		h := rec.Header
		h.CreatedAt = born.UnixMilli()
		require.NoError(t, rec.Write(rec.Key, h, []byte("ada"), nil, nil, nil))
		_, err := s.Create(context.Background(), rec, coatcheck.CreateOptions{Limit: limit, Until: time.Now().Add(grave)}, time.Now())
		return rec, err
	}
	now := time.Now()
	for i := range limit + 1 {
		_, err := login(now.Add(time.Duration(i) * time.Second))
		require.NoError(t, err)
	}
	keys := allKeys(t, server)
	server.Must("CONFIG", "SET", "maxmemory", "1")
	rec, err := login(now.Add(-time.Hour))
	require.ErrorIs(t, err, coatcheck.ErrUnavailable)
	require.ErrorIs(t, load(s, rec), coatcheck.ErrNotFound)
	assert.Subset(t, allKeys(t, server), slices.DeleteFunc(keys, func(key string) bool { return strings.Contains(key, "}:r:") }), "nothing is lost")
}
