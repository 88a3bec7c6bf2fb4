package redisstore_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// A Redis that may evict keys is refused, because it may evict what finds a user's sessions (CASES A10).
func TestEvictionIsRefused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, durable, "maxmemory 1gb", "maxmemory-policy allkeys-lru")
	_, err := redisstore.NewPatient(context.Background(), redisstore.Options{URL: server.URL()})
	require.ErrorIs(t, err, redisstore.ErrEviction)
	require.NotErrorIs(t, err, coatcheck.ErrUnavailable)
	require.ErrorContains(t, err, "allkeys-lru")
	assert.Contains(t, logged(t, redisstore.Options{URL: server.URL(), AllowEviction: true}), "may evict sessions")

	server.Must("CONFIG", "SET", "maxmemory-policy", "noeviction")
	assert.Empty(t, logged(t, redisstore.Options{URL: server.URL()}))
}

// Where the index was evicted, an operator still ends all of a user's sessions, and nobody else's.
func TestEndUserWithoutAnIndex(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cluster := redistest.StartCluster(t, false)
	for name, tt := range map[string]struct {
		url     string
		servers []*redistest.Server
	}{"one server": {server.URL(), []*redistest.Server{server}}, "Cluster": {cluster.URL(), cluster.Primaries}} {
		t.Run(name, func(t *testing.T) {
			s := opened(t, redisstore.Options{URL: tt.url, AllowEviction: true, Prefix: "[odd]*?:"})
			for i := range 30 {
				add(t, s, "bob "+strings.Repeat("x", i))
			}
			recs := []*coatcheck.Record{add(t, s, "ada"), add(t, s, "ada"), add(t, s, "ada")}
			evict := func() {
				for _, server := range tt.servers {
					for _, key := range allKeys(t, server) {
						if strings.Contains(key, "}:u:") {
							server.Must("DEL", key)
						}
					}
				}
			}
			evict()
			indexed := add(t, s, "ada") // the index holds this one
			n, err := s.EndUser(context.Background(), "ada", recs[0].Key, false, time.Now(), time.Now().Add(grave))
			require.NoError(t, err)
			assert.Equal(t, 1, n, "a user's own revocation looks only at the index")
			require.ErrorIs(t, load(s, indexed), coatcheck.ErrEnded)

			evict()
			n, err = s.EndUser(context.Background(), "ada", recs[0].Key, true, time.Now(), time.Now().Add(grave))
			require.NoError(t, err)
			assert.Equal(t, 2, n)
			require.NoError(t, load(s, recs[0]), "it was to be kept")
			n, err = s.EndUser(context.Background(), "ada", coatcheck.Key{}, true, time.Now(), time.Now().Add(grave))
			require.NoError(t, err)
			assert.Equal(t, 1, n)
			for _, rec := range recs {
				require.ErrorIs(t, load(s, rec), coatcheck.ErrEnded)
			}
			n, err = s.EndUser(context.Background(), "bob ", coatcheck.Key{}, true, time.Now(), time.Now().Add(grave))
			require.NoError(t, err)
			assert.Equal(t, 1, n, "the others' sessions live")
		})
	}
}

// A session that has expired by the clock of the revoking node, which may be ahead, is removed also if no index holds it.
func TestOrphanThatHasExpired(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL(), AllowEviction: true})
	rec, others := add(t, s, "ada"), add(t, s, "bob")
	for _, key := range allKeys(t, server) {
		if strings.Contains(key, "}:u:") {
			server.Must("DEL", key)
		}
	}
	ahead := time.UnixMilli(rec.Expiry()).Add(time.Minute)
	n, err := s.EndUser(context.Background(), "ada", coatcheck.Key{}, true, ahead, ahead.Add(grave))
	require.NoError(t, err)
	assert.Zero(t, n)
	require.ErrorIs(t, load(s, rec), coatcheck.ErrNotFound)
	require.NoError(t, load(s, others))
}

// A policy that changes while the store runs is warned of, and from then on records without an index are looked for.
func TestEvictionBeginsLater(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, durable, "maxmemory 1gb")
	var b bytes.Buffer
	s := opened(t, redisstore.Options{URL: server.URL(), Logger: slog.New(slog.NewTextHandler(&b, nil))})
	rec := add(t, s, "ada")
	s.WatchAMinute()
	assert.Empty(t, b.String())
	server.Must("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
	s.WatchAMinute()
	assert.Contains(t, b.String(), "volatile-lru")
	said := b.Len()
	s.WatchAMinute()
	assert.Equal(t, said, b.Len(), "once")
	for _, key := range allKeys(t, server) {
		if strings.Contains(key, "}:u:") {
			server.Must("DEL", key)
		}
	}
	require.NoError(t, endUser(s, "ada", coatcheck.Key{}))
	require.ErrorIs(t, load(s, rec), coatcheck.ErrEnded)
}
