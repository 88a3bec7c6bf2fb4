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

// scan visits all sessions, and returns which it showed and the cursors that it was given.
func scan(t testing.TB, s *redisstore.Store, limit int) (shown map[coatcheck.Key]bool, cursors []string) {
	t.Helper()
	shown = map[coatcheck.Key]bool{}
	for cursor := ""; ; {
		var err error
		cursor, err = s.Scan(context.Background(), cursor, limit, time.Now(), func(rec *coatcheck.Record) { shown[rec.Key] = true })
		require.NoError(t, err)
		if cursor == "" {
			return shown, cursors
		}
		cursors = append(cursors, cursor)
	}
}

// Scan shows the sessions of its own prefix, whatever that looks like, and nothing else in the same Redis.
func TestScanKeepsToItsPrefix(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	want := map[string][]coatcheck.Key{}
	prefixes := []string{"a*:", "ab:", "a?:", "[ab]:", `a\`, "a"}
	for _, prefix := range prefixes {
		s := opened(t, redisstore.Options{URL: server.URL(), Prefix: prefix})
		for i := range 5 {
			want[prefix] = append(want[prefix], add(t, s, fmt.Sprint("user ", i)).Key)
		}
		server.Must("SET", prefix+"{00000000}:s:no key of a session 22", "x")
		server.Must("SADD", prefix+"{00000000}:s:AAAAAAAAAAAAAAAAAAAAAA", "x")
		server.Must("SET", prefix+"{00000000}:s:AAAAAAAAAAAAAAAAAAAAAB", "x") // not canonical
	}
	for _, prefix := range prefixes {
		s := opened(t, redisstore.Options{URL: server.URL(), Prefix: prefix})
		shown, _ := scan(t, s, 3)
		assert.Len(t, shown, 5, prefix)
		for _, key := range want[prefix] {
			assert.True(t, shown[key], prefix)
		}
	}
}

// One call of Scan keeps Redis busy for a bounded time, however many keys there are, and its cursors name no key.
func TestScanIsBounded(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	var keys []coatcheck.Key
	for i := range 1500 {
		keys = append(keys, add(t, s, fmt.Sprint("user ", i%40)).Key)
	}
	server.Must("CONFIG", "RESETSTAT")
	n := 0
	_, err := s.Scan(context.Background(), "", 100_000, time.Now(), func(*coatcheck.Record) { n++ })
	require.NoError(t, err)
	assert.NotZero(t, n)
	assert.Less(t, n, 600)
	assert.Contains(t, server.Must("INFO", "commandstats"), "cmdstat_scan:calls=1,")

	shown, cursors := scan(t, s, 1000)
	for _, key := range keys {
		require.True(t, shown[key])
	}
	for _, limit := range []int{1, 3} {
		few, more := scan(t, s, limit)
		assert.Len(t, few, len(keys))
		cursors = append(cursors, more...)
	}
	for _, cursor := range cursors {
		for _, key := range keys[:50] {
			require.NotContains(t, cursor, key.String())
		}
	}
}

// A page may end in the middle of what one SCAN finds, and the next one may be larger or smaller.
func TestScanInPagesOfDifferentSizes(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	for i := range 300 {
		add(t, s, fmt.Sprint("user ", i))
	}
	for seed := range 20 {
		shown := map[coatcheck.Key]bool{}
		cursor := ""
		for calls := 0; ; calls++ {
			limit := []int{1, 1000, 2, 50, 1, 7}[(calls*calls+seed)%6]
			n := 0
			var err error
			cursor, err = s.Scan(context.Background(), cursor, limit, time.Now(), func(rec *coatcheck.Record) { shown[rec.Key] = true; n++ })
			require.NoError(t, err)
			require.LessOrEqual(t, n, limit)
			if cursor == "" {
				break
			}
		}
		assert.Len(t, shown, 300)
	}
}

// Cursors are those of one server. When another takes its place, its part is scanned from the beginning.
func TestScanGoesOnAtAnotherServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	for i := range 100 {
		add(t, s, fmt.Sprint("user ", i))
	}
	_, cursors := scan(t, s, 10)
	fields := strings.Split(cursors[len(cursors)-1], ".")
	fields[1] = "1" // as from another server
	shown := map[coatcheck.Key]bool{}
	for cursor := strings.Join(fields, "."); ; {
		var err error
		cursor, err = s.Scan(context.Background(), cursor, 10, time.Now(), func(rec *coatcheck.Record) { shown[rec.Key] = true })
		require.NoError(t, err)
		if cursor == "" {
			break
		}
	}
	assert.Len(t, shown, 100)
}

// Every primary of a Cluster is scanned, also after one of them has been replaced in the middle of its part, and none of the
// replicas.
func TestScanOfACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, true)
	s := opened(t, redisstore.Options{URL: cluster.URL()})
	want := map[coatcheck.Key]bool{}
	for i := range 200 {
		want[add(t, s, fmt.Sprint("user ", i)).Key] = true
	}
	for _, replica := range cluster.Replicas {
		replica.Must("CONFIG", "RESETSTAT")
	}
	shown, cursors := scan(t, s, 20)
	assert.Equal(t, want, shown)
	firsts := map[string]bool{}
	for _, cursor := range cursors {
		first, _, _ := strings.Cut(cursor, ".")
		firsts[first] = true
	}
	assert.Len(t, firsts, 3)
	for _, replica := range cluster.Replicas {
		assert.NotContains(t, replica.Must("INFO", "commandstats"), "cmdstat_scan:")
	}

	shown = map[coatcheck.Key]bool{}
	yield := func(rec *coatcheck.Record) { shown[rec.Key] = true }
	cursor, err := s.Scan(context.Background(), "", 20, time.Now(), yield)
	require.NoError(t, err)
	cluster.Replicas[0].Must("CLUSTER", "FAILOVER")
	redistest.Eventually(t, time.Minute, "the replica to take over", func() bool {
		return strings.Contains(cluster.Replicas[0].Must("INFO", "replication"), "role:master")
	})
	redistest.Eventually(t, time.Minute, "the scan to be done", func() bool {
		next, err := s.Scan(context.Background(), cursor, 20, time.Now(), yield)
		if err == nil {
			cursor = next
		}
		return err == nil && next == ""
	})
	assert.Equal(t, want, shown)
}
