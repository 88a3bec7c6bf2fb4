package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// inspected returns the findings of Inspect by their Check.
func inspected(t *testing.T, opt redisstore.Options) map[string]redisstore.Finding {
	t.Helper()
	opt.Timeout = 3 * time.Second // the most that there is
	var by map[string]redisstore.Finding
	redistest.Eventually(t, time.Minute, "an inspection in time", func() bool {
		found, err := redisstore.Inspect(t.Context(), opt)
		if errors.Is(err, context.DeadlineExceeded) {
			return false
		}
		require.NoError(t, err)
		by = make(map[string]redisstore.Finding)
		for _, f := range found {
			by[f.Check] = f
			if errors.Is(f.Err, context.DeadlineExceeded) {
				return false
			}
		}
		return true
	})
	return by
}

// bad returns the levels of the findings that are not Fine.
func bad(found map[string]redisstore.Finding) map[string]redisstore.Level {
	levels := make(map[string]redisstore.Level)
	for check, f := range found {
		if f.Level != redisstore.Fine {
			levels[check] = f.Level
		}
	}
	return levels
}

type levels = map[string]redisstore.Level

func TestInspect(t *testing.T) {
	t.Parallel()
	found := inspected(t, redisstore.Options{URL: redistest.Start(t, durable).URL()})
	assert.Empty(t, bad(found))
	assert.Len(t, found, 7, "cache, encryption, password, eviction, persistence, clock, commands")

	evicting := redistest.Start(t, durable, "maxmemory-policy allkeys-lru")
	assert.Equal(t, levels{"eviction": redisstore.Warning}, bad(inspected(t, redisstore.Options{URL: evicting.URL()})), "it has no limit")
	evicting.Must("CONFIG", "SET", "maxmemory", "100mb")
	assert.Equal(t, levels{"eviction": redisstore.Problem}, bad(inspected(t, redisstore.Options{URL: evicting.URL()})))

	assert.Equal(t, levels{"replicas": redisstore.Problem}, bad(inspected(t, redisstore.Options{URL: redistest.Start(t, durable).URL(), WaitReplicas: 1})))
	primary, _ := redistest.StartReplicated(t, durable)
	found = inspected(t, redisstore.Options{URL: primary.URL(), WaitReplicas: 1})
	assert.Empty(t, bad(found))
	assert.Contains(t, found, "replicas")

	limited := redistest.Start(t, "user default on nopass +@all -info -client ~* &*")
	assert.Equal(t, levels{"cache": redisstore.Warning, "eviction": redisstore.Warning}, bad(inspected(t, redisstore.Options{URL: limited.URL()})))

	_, err := redisstore.Inspect(t.Context(), redisstore.Options{URL: "redis://127.0.0.1:1"})
	require.ErrorIs(t, err, coatcheck.ErrUnavailable)
	_, err = redisstore.Inspect(t.Context(), redisstore.Options{URL: "redis://127.0.0.1:1", WaitReplicas: -1})
	require.ErrorContains(t, err, "WaitReplicas")
}

func TestInspectCluster(t *testing.T) {
	t.Parallel()
	assert.Empty(t, bad(inspected(t, redisstore.Options{URL: undisturbedCluster(t).URL()})))
}

// What the findings say of a crash is so: without an append-only file an ended session is back, with one that is always synced not.
func TestInspectPersistence(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		config []string
		level  redisstore.Level
		text   string
		after  error // what the ended session is after the crash
	}{
		{nil, redisstore.Warning, "no append-only file", nil},
		{[]string{durable, "appendfsync always"}, redisstore.Fine, "unless appendfsync is always", coatcheck.ErrEnded},
	} {
		server := redistest.Start(t, tt.config...)
		f := inspected(t, redisstore.Options{URL: server.URL()})["persistence"]
		assert.Equal(t, tt.level, f.Level)
		assert.Contains(t, f.Text, tt.text)

		s := opened(t, redisstore.Options{URL: server.URL()})
		rec := add(t, s, "ada")
		server.Must("SAVE") // as "save 3600 1" does by itself
		require.NoError(t, end(s, rec))
		server.Kill()
		server.Restart()
		require.ErrorIs(t, load(opened(t, redisstore.Options{URL: server.URL()}), rec), tt.after)
	}
	silent := redistest.Start(t, "user default on nopass +@all -info ~* &*")
	assert.Equal(t, redisstore.Fine, inspected(t, redisstore.Options{URL: silent.URL()})["persistence"].Level)
}

// A Redis that dumps nothing by itself begins after a crash with the dump that its own synchronization with a primary has left.
func TestInspectSaysThatReplicationDumps(t *testing.T) {
	t.Parallel()
	primary, replica := redistest.Start(t), redistest.Start(t)
	rec := add(t, opened(t, redisstore.Options{URL: primary.URL()}), "ada")
	replica.Must("REPLICAOF", "127.0.0.1", primary.PortText())
	redistest.Eventually(t, time.Minute, "the replica to follow", func() bool {
		return strings.Contains(replica.Must("INFO", "replication"), "master_link_status:up")
	})
	replica.Must("REPLICAOF", "NO", "ONE")
	require.NoError(t, end(opened(t, redisstore.Options{URL: replica.URL()}), rec))
	replica.Kill()
	replica.Restart()
	require.NoError(t, load(opened(t, redisstore.Options{URL: replica.URL()}), rec), "it is live again")
	assert.Contains(t, inspected(t, redisstore.Options{URL: replica.URL()})["persistence"].Text, "synchronization of a replica")
}

// If a command that docs/redis.md grants is not granted, Inspect names it.
func TestInspectNamesWhatTheUserLacks(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, durable)
	whole := aclUser(t)
	inspectAs := func(rules string) map[string]redisstore.Finding {
		server.Must(strings.Fields("ACL SETUSER doctor reset " + rules)...)
		return inspected(t, redisstore.Options{URL: "redis://doctor:s3cret@" + server.Addr()})
	}
	assert.Empty(t, bad(inspectAs(whole)))
	// Without these commands the store does not even connect, or needs them only in other set-ups.
	elsewhere := regexp.MustCompile(`^(hello|auth|ping|info|role|wait|asking|client\|.*|cluster\|.*)$`)
	tried := 0
	for _, word := range strings.Fields(whole) {
		command, ok := strings.CutPrefix(word, "+")
		if !ok || elsewhere.MatchString(command) {
			continue
		}
		tried++
		f := inspectAs(whole + " -" + command)["commands"]
		assert.Equal(t, redisstore.Problem, f.Level, command)
		assert.Equal(t, "the Redis user lacks commands; give the user +"+command, f.Text)
		assert.ErrorContains(t, f.Err, "NOPERM")
	}
	assert.Equal(t, 17, tried)
	f := inspectAs(whole + " -zadd -get -eval")["commands"]
	assert.Equal(t, "the Redis user lacks commands; give the user +get +eval +zadd", f.Text, "all at once")
	f = inspectAs(strings.Replace(whole, "~coatcheck:*", "~other:*", 1))["commands"]
	assert.Equal(t, `the Redis user may not use keys that begin with "coatcheck:"; give the user ~coatcheck:*`, f.Text)
	redistest.Eventually(t, time.Minute, "a key that is left where DEL was refused", func() bool {
		inspectAs(whole + " -del")
		keys := allKeys(t, server) // for five seconds
		for _, key := range keys {
			assert.NotEqual(t, "-1", server.Must("PTTL", key), key)
		}
		return len(keys) > 0
	})
}

func TestInspectClock(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, tt := range []struct {
		ahead time.Duration
		level redisstore.Level
		text  string
	}{
		{0, redisstore.Fine, "agree"},
		{-9 * time.Second, redisstore.Warning, "s behind"},
		{9 * time.Second, redisstore.Warning, "s ahead"},
		{time.Minute, redisstore.Problem, aMinuteAhead},
		{-time.Hour, redisstore.Problem, `(59m\d\d|1h0m0)(\.\d)?s behind`},
	} {
		f := inspected(t, redisstore.Options{URL: "redis://" + shifted(t, server.Addr(), tt.ahead)})["clock"]
		assert.Equal(t, tt.level, f.Level, tt.ahead)
		assert.Regexp(t, tt.text, f.Text)
	}
	assert.Regexp(t, aMinuteAhead, logged(t, redisstore.Options{URL: "redis://" + shifted(t, server.Addr(), time.Minute)}), "the start warns too")
	mute := redistest.Start(t, "user default on nopass +@all -time ~* &*")
	assert.Equal(t, redisstore.Warning, inspected(t, redisstore.Options{URL: mute.URL()})["clock"].Level)
}

// aMinuteAhead allows for the seconds that a slow machine may take to ask, which do not count as skew.
const aMinuteAhead = `\b(5\d(\.\d)?s|1m0s) ahead`

// shifted returns the address of the server behind a proxy that puts the clock in its answers to TIME forward, because a
// real server's clock cannot be set.
func shifted(t *testing.T, server string, ahead time.Duration) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { shiftTime(client, server, ahead) })
		}
	})
	t.Cleanup(func() {
		assert.NoError(t, l.Close())
		running.Wait()
	})
	return l.Addr().String()
}

var timeAnswer = regexp.MustCompile(`\*2\r\n\$10\r\n(\d{10})\r\n`)

func shiftTime(client net.Conn, server string, ahead time.Duration) {
	defer client.Close() //nolint:errcheck // the test is over, or fails elsewhere
	conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", server)
	if err != nil {
		return
	}
	defer conn.Close() //nolint:errcheck // likewise
	go func() {
		_, _ = io.Copy(conn, client) // the client may have gone
		_ = conn.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		answer := timeAnswer.ReplaceAllFunc(buf[:n], func(b []byte) []byte {
			seconds, _ := strconv.ParseInt(string(timeAnswer.FindSubmatch(b)[1]), 10, 64)
			return fmt.Appendf(nil, "*2\r\n$10\r\n%d\r\n", seconds+int64(ahead/time.Second))
		})
		if _, err := client.Write(answer); err != nil {
			return
		}
	}
}
