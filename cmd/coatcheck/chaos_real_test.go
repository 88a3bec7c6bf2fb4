//go:build real && linux

package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

const chaosKey = "canary-login-key-of-more-than-32-characters"

// TestChaos runs the program under mixed traffic while everything around it fails, one part after the other and several at once:
// re-reads find good and bad files, descriptors run out, the log's reader stalls, Redis hangs, is full, and is demoted. At the end
// no session that was ended lives, no other was signed out, each event that a client was told of is in the log or counted as left
// out, and the process holds what it held before. COATCHECK_CHAOS says for how long; `make chaos` asks for longer.
//
// The clock is not stepped: it is the whole machine's, and the program asks the kernel in a way that no preloaded library sees.
// server.TestClockSteps steps the one that it hands in, under the same kind of traffic.
func TestChaos(t *testing.T) {
	length, err := time.ParseDuration(cmp.Or(os.Getenv("COATCHECK_CHAOS"), "30s"))
	require.NoError(t, err)
	t.Run("memory", func(t *testing.T) {
		newChaos(t, nil, "--data-dir", t.TempDir()).run(t, length)
	})
	t.Run("redis", func(t *testing.T) {
		redis := redistest.Start(t, "maxmemory-policy noeviction")
		newChaos(t, redis, "--store", redis.URL(), "--redis-timeout=500ms").run(t, length)
	})
}

// chaos is a server and what is done to it.
type chaos struct {
	*process
	redis *redistest.Server // nil: the store is in memory
	keys  string            // the file of the login keys
	log   *chaosLog
	over  context.Context // the end of faults and traffic
}

func newChaos(t *testing.T, redis *redistest.Server, store ...string) *chaos {
	t.Helper()
	c := &chaos{redis: redis, keys: filepath.Join(t.TempDir(), "keys")}
	c.writeKeys(t, chaosKey+"\n")
	r, w, err := os.Pipe()
	require.NoError(t, err)
	c.log = &chaosLog{events: make(map[string]int), others: make(map[string]int), done: make(chan struct{})}
	go c.log.read(r)
	c.process = startWith(t, w, append([]string{
		"--login=trusted", "--login-key-file", c.keys, "--log-format=json", "--ttl=100h", "--max-lifetime=100h", "--reauth-within=0s",
	}, store...)...)
	require.NoError(t, w.Close())
	return c
}

func (c *chaos) run(t *testing.T, length time.Duration) {
	clients := make([]*chaosClient, 8)
	for i := range clients {
		clients[i] = &chaosClient{chaos: c, number: i, acked: make(map[string]int), answers: make(map[string]int), http: &http.Client{
			Transport: new(http.Transport), Timeout: 20 * time.Second,
		}}
		clients[i].login(t)
	}
	goroutines, descriptors := c.goroutines(t), c.descriptors(t)

	over, stop := context.WithTimeout(t.Context(), length)
	defer stop()
	c.over = over
	var all sync.WaitGroup
	for _, client := range clients {
		all.Go(func() {
			for over.Err() == nil && !t.Failed() {
				client.step(t)
				time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond) //nolint:gosec // load, no secret
			}
		})
	}
	all.Go(func() { c.fail(t, c.reread, c.takeDescriptors, c.stallLog) })
	if c.redis != nil {
		all.Go(func() { c.fail(t, c.hangRedis, c.fillRedis, c.demoteRedis) })
	}
	all.Wait()
	require.False(t, c.ended(), "the process runs on")

	c.writeKeys(t, chaosKey+"\n")
	c.signal(t, syscall.SIGHUP)
	require.Eventually(t, func() bool { return c.readiness(t) == `{"status":"ready","writes":"ok","reload":"ok"}` }, patience, 50*time.Millisecond)
	for _, client := range clients {
		all.Go(func() { client.settle(t) })
	}
	all.Wait()
	for _, client := range clients {
		client.http.CloseIdleConnections()
	}
	assert.Eventually(t, func() bool { return c.goroutines(t) <= goroutines+10 }, patience, 100*time.Millisecond, "%d goroutines before", goroutines)
	assert.Eventually(t, func() bool { return c.descriptors(t) <= descriptors+10 }, patience, 100*time.Millisecond, "%d descriptors before", descriptors)
	c.signal(t, syscall.SIGTERM)
	assert.Equal(t, exitOK, c.wait(t))
	<-c.log.done
	c.compareEvents(t, clients)
}

// compareEvents holds what the clients were told against the log.
func (c *chaos) compareEvents(t *testing.T, clients []*chaosClient) {
	t.Helper()
	missing, acked, answers := 0, make(map[string]int), make(map[string]int)
	var first string
	for _, client := range clients {
		for event, n := range client.acked {
			kind, _, _ := strings.Cut(event, " ")
			acked[kind] += n
			if lost := n - c.log.events[event]; lost > 0 {
				missing, first = missing+lost, event
			}
		}
		for answer, n := range client.answers {
			answers[answer] += n
		}
	}
	t.Logf("acknowledged %v, answers %v, %d lines left out, %d events missing", acked, answers, c.log.lost, missing)
	t.Logf("the log says beside events: %v", c.log.others)
	assert.LessOrEqual(t, missing, c.log.lost, "events that are neither in the log nor counted, such as %.30q", first)
	assert.Empty(t, c.log.strange, "lines that are no JSON")
	for _, kind := range []string{"login", "logout", "revoke"} {
		assert.Positive(t, acked[kind], kind)
	}
}

func (c *chaos) goroutines(t *testing.T) int {
	t.Helper()
	_, page := c.scrape(t)
	found := regexp.MustCompile(`(?m)^go_goroutines (\d+)`).FindStringSubmatch(page)
	require.NotNil(t, found)
	n, err := strconv.Atoi(found[1])
	require.NoError(t, err)
	return n
}

// fail lets one of the faults after the other begin and end, in random order and with pauses, until the test is over.
func (c *chaos) fail(t *testing.T, faults ...func(*testing.T)) {
	for c.over.Err() == nil && !t.Failed() {
		for _, i := range rand.Perm(len(faults)) {
			if c.over.Err() == nil {
				faults[i](t)
				c.pause(time.Second)
			}
		}
	}
}

// pause waits for up to most, or until the test is over.
func (c *chaos) pause(most time.Duration) {
	select {
	case <-c.over.Done():
	case <-time.After(rand.N(most)): //nolint:gosec // load, no secret
	}
}

// writeKeys puts the file in place at once, as a careful operator does.
func (c *chaos) writeKeys(t *testing.T, text string) {
	t.Helper()
	if assert.NoError(t, os.WriteFile(c.keys+".new", []byte(text), 0o600)) {
		assert.NoError(t, os.Rename(c.keys+".new", c.keys))
	}
}

// reread asks for re-reads of files that are right, and of ones that are not, which leave the keys as they were.
func (c *chaos) reread(t *testing.T) {
	for _, text := range []string{"short\n", chaosKey + "\n", "", chaosKey + "\nanother-canary-key-of-more-than-32-characters\n"} {
		c.writeKeys(t, text)
		assert.NoError(t, c.cmd.Process.Signal(syscall.SIGHUP))
		c.pause(500 * time.Millisecond)
	}
}

// takeDescriptors leaves the process no free descriptor, and makes it need more: for connections and for a re-read.
func (c *chaos) takeDescriptors(t *testing.T) {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.cmd.Process.Pid))
	if !assert.NoError(t, err) {
		return
	}
	var before unix.Rlimit
	if !assert.NoError(t, unix.Prlimit(c.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &before)) {
		return
	}
	scarce := before
	scarce.Cur = uint64(len(open) + 1)
	assert.NoError(t, unix.Prlimit(c.cmd.Process.Pid, unix.RLIMIT_NOFILE, &scarce, nil))
	for range 10 {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(c.url, "http://"), time.Second) //nolint:noctx // it has a timeout
		if err == nil {
			defer conn.Close() //nolint:errcheck // nothing was sent
		}
	}
	assert.NoError(t, c.cmd.Process.Signal(syscall.SIGHUP))
	c.pause(3 * time.Second)
	assert.NoError(t, unix.Prlimit(c.cmd.Process.Pid, unix.RLIMIT_NOFILE, &before, nil))
}

// stallLog stalls the reader for long enough to fill the queue, on a machine that is not too busy.
func (c *chaos) stallLog(*testing.T) {
	c.log.stalled.Lock()
	defer c.log.stalled.Unlock()
	select {
	case <-c.over.Done():
	case <-time.After(10 * time.Second):
	}
}

func (c *chaos) hangRedis(*testing.T) {
	c.redis.Signal(syscall.SIGSTOP)
	defer c.redis.Signal(syscall.SIGCONT)
	c.pause(6 * time.Second)
}

func (c *chaos) fillRedis(*testing.T) {
	c.redis.Must("CONFIG", "SET", "maxmemory", "1")
	defer c.redis.Must("CONFIG", "SET", "maxmemory", "0")
	c.pause(3 * time.Second)
}

// demoteRedis makes the server the replica of one that does not exist, so that it keeps its data and takes no writes.
func (c *chaos) demoteRedis(*testing.T) {
	c.redis.Must("REPLICAOF", "127.0.0.1", "1")
	defer c.redis.Must("REPLICAOF", "NO", "ONE")
	c.pause(3 * time.Second)
}

// chaosLog reads the log and counts events by kind and user.
type chaosLog struct {
	stalled sync.Mutex     // held while nobody reads
	events  map[string]int // owned by read until done is closed, as are the others
	lost    int
	others  map[string]int // lines that are no event, by their message
	strange []string
	done    chan struct{}
}

func (l *chaosLog) read(r io.Reader) {
	defer close(l.done)
	scan := bufio.NewScanner(r)
	for scan.Scan() {
		l.stalled.Lock()
		l.stalled.Unlock() //nolint:staticcheck // it only waits while the reader is stalled
		var line struct {
			Event, User, Msg string
			Lines            int
		}
		if err := json.Unmarshal(scan.Bytes(), &line); err != nil {
			l.strange = append(l.strange, scan.Text())
			continue
		}
		if line.Event == "" {
			l.others[line.Msg]++
		}
		l.events[line.Event+" "+line.User]++
		l.lost += line.Lines
	}
}
