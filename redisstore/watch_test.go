package redisstore_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// While Redis refuses writes the store says so and why, goes on reading, and notices by itself when writes are accepted again
// (CASES A11).
func TestWritesRefused(t *testing.T) {
	t.Parallel()
	for reason, cause := range map[string]struct {
		begin, end func(t *testing.T, server *redistest.Server)
	}{
		"OOM":        {config("maxmemory", "1"), config("maxmemory", "0")},
		"NOREPLICAS": {config("min-replicas-to-write", "1"), config("min-replicas-to-write", "0")},
		"READONLY":   {command("REPLICAOF", "127.0.0.1", "1"), command("REPLICAOF", "NO", "ONE")},
		"NOPERM":     {command("ACL", "SETUSER", "default", "-set"), command("ACL", "SETUSER", "default", "+@all")},
		"MISCONF": {func(t *testing.T, server *redistest.Server) {
			t.Helper()
			dir := t.TempDir()
			server.Must("CONFIG", "SET", "save", "3600 1")
			server.Must("CONFIG", "SET", "dir", dir)
			require.NoError(t, os.Remove(dir))
			_ = server.Do("BGSAVE") // it may answer, and fail later
			_ = server.Do("SAVE")
		}, config("stop-writes-on-bgsave-error", "no")},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, "enable-protected-configs local")
			s := opened(t, redisstore.Options{URL: server.URL(), Timeout: time.Second})
			rec := add(t, opened(t, redisstore.Options{URL: server.URL()}), "ada") // by a store that has time
			said, refused := s.WritesRefused()
			require.False(t, refused, said)

			cause.begin(t, server)
			redistest.Eventually(t, time.Minute, "the refusal to be noticed", func() bool {
				said, refused = s.WritesRefused()
				return refused
			})
			assert.Equal(t, reason, said)
			redistest.Eventually(t, time.Minute, "reads", func() bool { return load(s, rec) == nil && s.Ping(context.Background()) == nil })
			require.ErrorIs(t, begin(s, session(t, "ada")), coatcheck.ErrUnavailable)
			redistest.Eventually(t, time.Minute, "a list, which is a read", func() bool {
				listed := 0
				err := s.List(context.Background(), "ada", time.Now(), func(*coatcheck.Record) bool { listed++; return true })
				return err == nil && listed == 1
			})

			cause.end(t, server)
			redistest.Eventually(t, time.Minute, "writes to be accepted", func() bool {
				_, refused := s.WritesRefused()
				return !refused && begin(s, session(t, "ada")) == nil
			})
		})
	}
}

// What one primary of a Cluster refuses or accepts is noticed although another one does not answer.
func TestWritesRefusedBesideASilentPrimary(t *testing.T) {
	t.Parallel()
	for _, silent := range []int{0, 1, 2} {
		t.Run(strconv.Itoa(silent), func(t *testing.T) {
			t.Parallel()
			c := redistest.StartCluster(t, false, "cluster-require-full-coverage no")
			s := opened(t, redisstore.Options{URL: c.URL(), Timeout: time.Second})
			full := c.Primaries[(silent+1)%3]
			refused := func() bool { _, refused := s.WritesRefused(); return refused }
			c.Primaries[silent].Signal(syscall.SIGSTOP)
			full.Must("CONFIG", "SET", "maxmemory", "1")
			redistest.Eventually(t, time.Minute, "the refusal to be noticed", func() bool { s.Turn(); return refused() })
			full.Must("CONFIG", "SET", "maxmemory", "0")
			redistest.Eventually(t, time.Minute, "its end to be noticed", func() bool { s.Turn(); return !refused() })

			c.Primaries[silent].Signal(syscall.SIGCONT)
			full.Must("CONFIG", "SET", "maxmemory", "1")
			redistest.Eventually(t, time.Minute, "the refusal to be noticed", func() bool { s.Turn(); return refused() })
			full.Signal(syscall.SIGSTOP)
			for range 3 {
				s.Turn()
				require.True(t, refused(), "it has not said that it accepts writes")
			}
			full.Signal(syscall.SIGCONT)
		})
	}
}

// A user who may not run one of the commands that scripts call is found out by the probe, whichever it is: else the store would say
// that writes are accepted while every login fails.
func TestOneForbiddenCommand(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	called := make(map[string]bool)
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, call := range regexp.MustCompile(`\bp?call\('([A-Z]+)'`).FindAllSubmatch(text, -1) {
			called[strings.ToLower(string(call[1]))] = true
		}
	}
	require.Greater(t, len(called), 12)
	s.Probe(context.Background())
	probed, err := server.Do("KEYS", "*:r:probe").AsStrSlice()
	require.NoError(t, err)
	require.Len(t, probed, 1)
	for name := range called {
		server.Must("ACL", "SETUSER", "default", "-"+name)
		redistest.Eventually(t, time.Minute, name+" to be missed", func() bool {
			s.Probe(context.Background())
			reason, _ := s.WritesRefused()
			return reason == "NOPERM"
		})
		assert.NotEqual(t, "-1", server.Must("PTTL", probed[0]), "%s: the key expires", name)
		server.Must("ACL", "SETUSER", "default", "+@all")
		redistest.Eventually(t, time.Minute, name+" to be back", func() bool {
			s.Probe(context.Background())
			_, refused := s.WritesRefused()
			return !refused
		})
	}
}

// The same refusals are known in the words of Redis 6 as well, which puts the error of a script's command into one of its own.
func TestRefusalOf(t *testing.T) {
	t.Parallel()
	const script, before = " script: 5d19e25827e8556e84feacc3b801c72f593d6b21, on @user_script:1.", "ERR Error running script (call to f_5d19): @user_script:1: "
	for _, tt := range []struct{ reason, text string }{
		{"READONLY", "READONLY You can't write against a read only replica." + script},
		{"READONLY", before + "@user_script: 1: -READONLY You can't write against a read only replica."},
		{"OOM", "OOM command not allowed when used memory > 'maxmemory'." + script},
		{"OOM", before + "@user_script: 1: -OOM command not allowed when used memory > 'maxmemory'."},
		{"MISCONF", "MISCONF Errors writing to the AOF file: No space left on device"},
		{"MISCONF", before + "@user_script: 1: -MISCONF Errors writing to the AOF file: No space left on device"},
		{"NOREPLICAS", "NOREPLICAS Not enough good replicas to write." + script},
		{"NOREPLICAS", before + "@user_script: 1: -NOREPLICAS Not enough good replicas to write."},
		{"NOPERM", "NOPERM this user has no permissions to run the 'evalsha' command"},
		{"NOPERM", "ERR ACL failure in script: User default has no permissions to run the 'set' command" + script},
		{"NOPERM", before + "@user_script: 1: The user executing the script can't run this command or subcommand"},
		{"", "LOADING Redis is loading the dataset in memory"},
		{"", "CLUSTERDOWN The cluster is down"},
		{"", "ERR unknown command 'OOM'"},
	} {
		assert.Equal(t, tt.reason, redisstore.RefusalOf(tt.text), tt.text)
	}
}

func config(name, value string) func(*testing.T, *redistest.Server) {
	return command("CONFIG", "SET", name, value)
}

func command(args ...string) func(*testing.T, *redistest.Server) {
	return func(_ *testing.T, server *redistest.Server) { server.Must(args...) }
}

// When an address leads to another server, because a failover has made a replica of the one that it led to, the old connections
// are given up: logins succeed, and a session that was ended at the new primary is not served from the cache for longer than
// five seconds, even if nobody writes (CASES A11).
func TestPrimaryBehindAStableAddress(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]bool{"writing": true, "reading only": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inTime(t, func() (problem string) {
				old, next := redistest.StartReplicated(t)
				address := redistest.Between(t, old.Addr())
				s := opened(t, redisstore.Options{URL: "redis://" + address.Addr(), Timeout: time.Second})
				rec := add(t, opened(t, redisstore.Options{URL: old.URL()}), "ada") // by a store that has time
				redistest.Eventually(t, time.Minute, "the session to be replicated", func() bool { return next.Must("DBSIZE") == old.Must("DBSIZE") })
				warm(t, s, rec)

				next.Must("REPLICAOF", "NO", "ONE")
				if write {
					old.Must("REPLICAOF", "127.0.0.1", next.PortText())
				} else { // it does not reach the new primary: else it would be told of the end, and so would the cache
					old.Must("REPLICAOF", "127.0.0.1", "1")
				}
				address.Lead(next.Addr())
				late := lateness()
				began := time.Now()
				require.NoError(t, end(opened(t, redisstore.Options{URL: next.URL()}), rec))
				if write {
					redistest.Eventually(t, time.Minute, "a login", func() bool { return begin(s, session(t, "ada")) == nil })
				}
				redistest.Eventually(t, time.Minute, "the session not to be served", func() bool { return load(s, rec) != nil })
				took := time.Since(began)
				if took > 5*time.Second+2*late() {
					return "it took " + took.String()
				}
				redistest.Eventually(t, time.Minute, "the tombstone", func() bool { return assert.ObjectsAreEqual(coatcheck.ErrEnded, load(s, rec)) })
				return ""
			})
		})
	}
}
