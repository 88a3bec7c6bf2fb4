package redisstore_test

import (
	"crypto/rand"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/server/oidc"
)

// Both indexes of a provider's sessions do the same.
func TestProviderIndex(t *testing.T) {
	store := opened(t, redisstore.Options{URL: redistest.Start(t).URL()})
	for name, x := range map[string]oidc.Index{"memory": oidc.NewMemoryIndex(), "redis": store.ProviderIndex()} {
		t.Run(name, func(t *testing.T) {
			ctx, now := t.Context(), time.Now()
			digest := func() (d [16]byte) { _, _ = rand.Read(d[:]); return d }
			add := func(session [16]byte, entry string, at time.Time, life time.Duration) bool {
				ended, err := x.Add(ctx, session, entry, at, at.Add(life))
				require.NoError(t, err)
				return ended
			}
			end := func(session [16]byte, at time.Time) []string {
				entries, err := x.End(ctx, session, at, at.Add(10*time.Minute))
				require.NoError(t, err)
				return entries
			}
			ended := func(session [16]byte, at time.Time) bool {
				ended, err := x.Ended(ctx, session, at)
				require.NoError(t, err)
				return ended
			}
			session := digest()
			assert.False(t, ended(session, now), "unknown")
			assert.Empty(t, end(digest(), now), "unknown")
			assert.False(t, add(session, "a", now, time.Hour))
			assert.False(t, add(session, "b", now, time.Hour))
			assert.False(t, add(digest(), "other", now, time.Hour))
			assert.False(t, ended(session, now))
			assert.ElementsMatch(t, []string{"a", "b"}, end(session, now))
			assert.True(t, ended(session, now))
			assert.True(t, ended(session, now.Add(9*time.Minute)))
			assert.False(t, ended(session, now.Add(10*time.Minute)))
			assert.ElementsMatch(t, []string{"a", "b"}, end(session, now), "a logout whose work failed finds them again")
			assert.True(t, add(session, "c", now, time.Hour), "a login that was on its way")
			assert.True(t, add(session, "c", now.Add(9*time.Minute), time.Hour))

			many := digest()
			for i := range oidc.MaxEntries + 10 {
				require.False(t, add(many, string(rune('A'+i%26))+string(rune('a'+i/26)), now.Add(time.Duration(i)*time.Millisecond), time.Hour))
			}
			assert.LessOrEqual(t, len(end(many, now)), oidc.MaxEntries)

			token, until, life := digest(), now.Add(5*time.Minute), 5*time.Minute
			begin := func(attempt string) (done, busy bool) {
				done, busy, err := x.Begin(ctx, token, attempt, now, life)
				require.NoError(t, err)
				return done, busy
			}
			state := func(done, busy bool) string { return map[bool]string{done: "done", busy: "busy"}[true] }
			assert.Empty(t, state(begin("one")))
			assert.Empty(t, state(begin("one")), "an answer that was lost is asked for again")
			assert.Equal(t, "busy", state(begin("two")))
			require.NoError(t, x.Forget(ctx, token, "two"))
			assert.Equal(t, "busy", state(begin("two")), "an attempt forgets only what it has noted itself")
			require.NoError(t, x.Forget(ctx, token, "one"))
			assert.Empty(t, state(begin("two")))
			require.NoError(t, x.Done(ctx, token, "two", now, until))
			require.NoError(t, x.Forget(ctx, token, "one"))
			assert.Equal(t, "done", state(begin("two")))
			assert.Equal(t, "done", state(begin("three")))
			require.NoError(t, x.Forget(ctx, token, "two"))
			assert.Equal(t, "done", state(begin("three")), "what is done stays done")
			token, life = digest(), 10*time.Millisecond // the node of the first attempt has died
			assert.Empty(t, state(begin("one")))
			redistest.Eventually(t, time.Minute, "the attempt to be over", func() bool {
				now = now.Add(time.Millisecond)
				return state(begin("two")) == ""
			})
			token, life = digest(), 5*time.Minute
			for _, clock := range []time.Time{now.Add(-time.Hour), now.Add(time.Hour)} {
				if name == "redis" { // one node in memory has one clock
					now = clock
				}
				assert.Empty(t, state(begin("one")))
				assert.Equal(t, "busy", state(begin("two")), "whatever the clock of the node says")
				require.NoError(t, x.Forget(ctx, token, "one"))
			}
		})
	}
}

// A provider's logout works although Redis' memory is full, and so does the ending of all of a user's sessions who has none.
func TestProviderLogoutOnFullMemory(t *testing.T) {
	t.Parallel()
	ctx, now, server := t.Context(), time.Now(), redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	newcomer := session(t, "ada")
	x, session, token := s.ProviderIndex(), [16]byte{1}, [16]byte{2}
	_, err := x.Add(ctx, session, "entry", now, now.Add(time.Hour))
	require.NoError(t, err)
	server.Must("CONFIG", "SET", "maxmemory", "1")
	require.ErrorIs(t, begin(s, newcomer), coatcheck.ErrUnavailable)

	done, busy, err := x.Begin(ctx, token, "one", now, time.Minute)
	require.NoError(t, err)
	assert.False(t, done || busy)
	entries, err := x.End(ctx, session, now, now.Add(time.Hour))
	require.NoError(t, err)
	assert.Equal(t, []string{"entry"}, entries)
	_, err = x.End(ctx, [16]byte{3}, now, now.Add(time.Hour))
	require.NoError(t, err, "a session that nobody has")
	require.NoError(t, endUser(s, "nobody", coatcheck.Key{}))
	require.NoError(t, x.Done(ctx, token, "one", now, now.Add(time.Minute)))
	done, _, err = x.Begin(ctx, token, "two", now, time.Minute)
	require.NoError(t, err)
	assert.True(t, done)
	require.NoError(t, x.Forget(ctx, token, "one"))
}

// With WaitReplicas a login at a provider goes on while the replica is away, and only a logout waits.
func TestProviderIndexAndReplicas(t *testing.T) {
	t.Parallel()
	ctx, now := t.Context(), time.Now()
	primary, replica := redistest.StartReplicated(t)
	s := opened(t, redisstore.Options{URL: primary.URL(), WaitReplicas: 1})
	x, session, token := s.ProviderIndex(), [16]byte{1}, [16]byte{2}
	replica.Signal(syscall.SIGSTOP)
	defer replica.Signal(syscall.SIGCONT)
	unacknowledged(t, s, func(*redisstore.Store) error {
		_, err := x.End(ctx, session, now, now.Add(time.Hour))
		return err
	})
	unacknowledged(t, s, func(*redisstore.Store) error { return x.Done(ctx, token, "one", now, now.Add(time.Hour)) })
	_, err := x.Add(ctx, [16]byte{3}, "entry", now, now.Add(time.Hour))
	require.NoError(t, err)
	require.NoError(t, x.Forget(ctx, token, "one"))
	_, _, err = x.Begin(ctx, token, "two", now, time.Hour)
	require.NoError(t, err)
}
