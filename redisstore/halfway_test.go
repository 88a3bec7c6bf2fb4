package redisstore_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// indexed returns the user's index, and the keys of the records that Redis holds.
func indexed(t *testing.T, server *redistest.Server) (index, records []string) {
	t.Helper()
	for _, key := range allKeys(t, server) {
		switch {
		case strings.Contains(key, "}:s:"):
			records = append(records, key)
		case strings.Contains(key, "}:u:"):
			members, err := server.Do("ZRANGE", key, "0", "-1", "WITHSCORES").AsZScores()
			require.NoError(t, err)
			for _, m := range members {
				index = append(index, fmt.Sprint(m.Member, " ", m.Score))
			}
			assert.NotEqual(t, "-1", server.Must("PTTL", key), "it stays for good")
		}
	}
	return index, records
}

// forbidding calls f while the user may not run a command.
func forbidding(server *redistest.Server, command string, f func()) {
	server.Must("ACL", "SETUSER", "default", "-"+command)
	f()
	server.Must("ACL", "SETUSER", "default", "+@all")
}

// A login that Redis refuses half-way leaves nothing: a live session that no index holds could not be ended. Nor has it ended another
// session, and a login that is tried again meets nothing of the first one.
func TestLoginThatIsRefusedHalfWay(t *testing.T) {
	t.Parallel()
	const limit = 17 // above 16 the store keeps a list of the oldest
	ctx, server := context.Background(), redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	for name, tt := range map[string]struct {
		have    int  // sessions
		lowered bool // they began under a higher limit
		replace bool
		refused []string
	}{
		"the first":               {refused: []string{"zadd", "pexpireat", "zrange"}},
		"one more":                {have: 5, refused: []string{"zadd", "zrange"}},
		"at the limit":            {have: limit, refused: []string{"zadd", "zrange", "zrangebyscore", "exists", "zrem"}},
		"at the limit, with list": {have: limit + 1, refused: []string{"zadd", "zrange", "zrem"}},
		"in place of another":     {have: 5, replace: true, refused: []string{"zadd", "zrem"}},
		"in place of another, beyond the limit": {
			have: limit + 3, lowered: true, replace: true, refused: []string{"zadd", "zrange", "zrangebyscore", "exists", "zrem"},
		},
	} {
		for _, command := range tt.refused {
			server.Must("FLUSHALL")
			var last *coatcheck.Record
			login := func() error {
				rec := session(t, "ada")
				opt := coatcheck.CreateOptions{Limit: limit, Mark: coatcheck.AnyMark, Until: time.Now().Add(grave)}
				if tt.replace {
					opt.Replace = last.Key
				}
				_, err := s.Create(ctx, rec, opt, time.Now())
				return err
			}
			for range tt.have {
				nextMillisecond()
				last = session(t, "ada")
				opt := coatcheck.CreateOptions{Limit: limit, Mark: coatcheck.AnyMark, Until: time.Now().Add(grave)}
				if tt.lowered {
					opt.Limit = 0
				}
				_, err := s.Create(ctx, last, opt, time.Now())
				require.NoError(t, err)
			}
			index, records := indexed(t, server)
			forbidding(server, command, func() {
				for range 40 { // some logins also remove what has expired
					require.ErrorIs(t, login(), coatcheck.ErrUnavailable, "%s without %s", name, command)
				}
			})
			after, recordsAfter := indexed(t, server)
			assert.ElementsMatch(t, records, recordsAfter, "%s without %s", name, command)
			if command != "zrem" { // without which entries that have no session stay, and count nowhere
				assert.ElementsMatch(t, index, after, "%s without %s", name, command)
			}
			if last != nil {
				assert.NoError(t, load(s, last), "%s without %s", name, command)
			}
			require.NoError(t, login(), "%s, with %s again", name, command)
		}
	}
}

// The same where the index is a key of a foreign type.
func TestLoginWithAForeignIndex(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	rec := add(t, s, "ada")
	for _, key := range allKeys(t, server) {
		if strings.Contains(key, "}:u:") {
			server.Must("SET", key, "x")
		}
	}
	again := session(t, "ada")
	require.ErrorIs(t, begin(s, again), coatcheck.ErrUnavailable)
	require.ErrorIs(t, load(s, again), coatcheck.ErrNotFound)
	require.ErrorIs(t, swap(s, next(t, rec, renewed)), coatcheck.ErrUnavailable)
	require.NoError(t, swap(s, next(t, rec)), "the renewal has changed nothing")
	require.NoError(t, end(s, rec), "logging out needs no index")
	require.ErrorIs(t, load(s, rec), coatcheck.ErrEnded)
}

// The session that a login replaces ends last: it goes on, and stays in the index, also if the user may write all keys but receipts.
func TestLoginWhoseReceiptIsRefused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	old := add(t, s, "ada")
	index, records := indexed(t, server)
	server.Must("ACL", "SETUSER", "default", "resetkeys", "~*}:s:*", "~*}:u:*", "~*}:m:*")
	opt := coatcheck.CreateOptions{Replace: old.Key, Mark: coatcheck.AnyMark, Until: time.Now().Add(grave)}
	_, err := s.Create(t.Context(), session(t, "ada"), opt, time.Now())
	require.ErrorIs(t, err, coatcheck.ErrUnavailable)
	server.Must("ACL", "SETUSER", "default", "allkeys")
	require.NoError(t, load(s, old))
	after, recordsAfter := indexed(t, server)
	assert.Equal(t, index, after)
	assert.Equal(t, records, recordsAfter)
}

// A renewal or a revocation that Redis refuses half-way leaves no live session without its index entry.
func TestRefusalsKeepTheIndex(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	rec := add(t, s, "ada")
	index, _ := indexed(t, server)
	for _, command := range []string{"zadd", "pexpireat"} {
		forbidding(server, command, func() { require.ErrorIs(t, swap(s, next(t, rec, renewed)), coatcheck.ErrUnavailable) })
		after, _ := indexed(t, server)
		assert.Equal(t, index, after, command)
		require.NoError(t, load(s, rec))
	}
	for _, command := range []string{"del", "set", "zrem"} {
		user := "user without " + command // a user's mark would refuse the next logins
		recs := []*coatcheck.Record{add(t, s, user), add(t, s, user), add(t, s, user)}
		forbidding(server, command, func() { require.ErrorIs(t, endUser(s, user, coatcheck.Key{}), coatcheck.ErrUnavailable) })
		require.NoError(t, endUser(s, user, coatcheck.Key{}))
		for _, rec := range recs {
			require.Error(t, load(s, rec), command)
		}
	}
}
