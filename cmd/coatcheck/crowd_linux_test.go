package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testoutput"
)

// startShipped starts the program as it is shipped. It needs, like the test, a descriptor for each of n connections.
func startShipped(t *testing.T, n int, args ...string) *process {
	t.Helper()
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	if need := uint64(n + 200); limit.Cur < need {
		limit.Cur, limit.Max = need, max(limit.Max, need)
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit), "%d connections need as many descriptors: raise ulimit -Hn", n)
	}
	stderr := new(testoutput.Buffer)
	p := startProgram(t, shippedProgram(t), nil, stderr, args...)
	p.stderr = stderr
	return p
}

// connections opens n of them, from several addresses of loopback, so that no address runs out of ports.
func (p *process) connections(t *testing.T, n int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	p.inParallel(t, n, func(i int) error {
		d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%8))}}
		conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
		conns[i] = conn
		return err
	})
	t.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close() // the test may have closed it
		}
	})
	return conns
}

// inParallel runs f for 0 to n-1, 64 at a time. The test ends if one of them fails, and not for a failure from before, such as a missed
// budget: what comes after that is to be measured all the same.
func (p *process) inParallel(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	var next atomic.Int64
	var failed atomic.Bool
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := f(i); !assert.NoError(t, err) {
					failed.Store(true)
					return
				}
			}
		})
	}
	all.Wait()
	require.False(t, failed.Load())
}

// resident is the process's memory in bytes, as the kernel counts it.
func (p *process) resident(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(t, err)
	found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(text)
	require.NotNil(t, found)
	kib, err := strconv.Atoi(string(found[1]))
	require.NoError(t, err)
	return kib << 10
}

func (p *process) descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "fd"))
	require.NoError(t, err)
	return len(open)
}

// Ten thousand connections that asked who they are, and wait, cost less than 200 MB. Those of users who are logged in cost a
// little more, see docs/reliability.md.
func TestTenThousandIdleConnections(t *testing.T) {
	const n = 10_000
	p := startShipped(t, n, append(unhurried, "--log-level=error")...)
	conns := p.connections(t, n)
	ask := func(i int) error {
		_, err := exchange(conns[i], bufio.NewReaderSize(conns[i], 1024), "GET /auth/me HTTP/1.1\r\nHost: localhost\r\n"+
			"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n\r\n")
		return err
	}
	p.inParallel(t, n, ask)
	rss := p.resident(t)
	t.Logf("%d connections: %.1f MB resident", n, float64(rss)/1e6)
	assert.Greater(t, p.descriptors(t), n, "all are open")
	assert.Less(t, rss, 200_000_000)
	assert.NoError(t, ask(n-1), "and are served")
}

// drips are what slow clients send: the one half headers, the other a body.
var drips = [...]struct{ first, then string }{
	{"GET /auth/me HTTP/1.1\r\nHost: localhost\r\nX-Drip: ", strings.Repeat("x", 4000)},
	{"POST /auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n", strings.Repeat(" ", 3999)},
}

// drip sends a byte now and then, until the server closes the connection, and returns how long that took.
func drip(conn net.Conn, nth int, every time.Duration) (time.Duration, error) {
	began := time.Now()
	d := drips[nth%len(drips)]
	if _, err := io.WriteString(conn, d.first); err != nil {
		return 0, err
	}
	closed := make(chan time.Duration, 1)
	go func() {
		_, _ = io.Copy(io.Discard, conn) // until the end, which may be a reset
		closed <- time.Since(began)
	}()
	time.Sleep(time.Duration(rand.Int64N(int64(every)))) //nolint:gosec // so that not all of them send at once
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case took := <-closed:
			return took, nil
		case <-tick.C:
			_, _ = io.WriteString(conn, d.then[i%len(d.then):i%len(d.then)+1]) // the end shows in reading
		}
	}
}

// someone sends GET /auth/me over a kept connection, with a pause between, until it is stopped; and returns how long each took.
func (p *process) someone(t *testing.T, stop <-chan struct{}) []time.Duration {
	t.Helper()
	conn := p.dial(t)
	in := bufio.NewReader(conn)
	var took []time.Duration
	for {
		began := time.Now()
		last, err := exchange(conn, in, "GET /auth/me HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if !assert.NoError(t, err) || !assert.False(t, last) {
			return took
		}
		took = append(took, time.Since(began))
		select {
		case <-stop:
			return took
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// during returns the 99th percentile of what someone waits while f runs.
func (p *process) during(t *testing.T, f func()) time.Duration {
	t.Helper()
	stop := make(chan struct{})
	answers := make(chan []time.Duration, 4)
	for range cap(answers) {
		go func() { answers <- p.someone(t, stop) }()
	}
	f()
	close(stop)
	var all []time.Duration
	for range cap(answers) {
		all = append(all, <-answers...)
	}
	require.Greater(t, len(all), 100)
	slices.Sort(all)
	return all[len(all)*99/100]
}

// DOS-02: two thousand clients drip headers and bodies. Each is cut within --read-timeout, and others are served meanwhile.
func TestSlowClients(t *testing.T) {
	const n, timeout = 2000, 2 * time.Second
	p := startShipped(t, n, "--log-level=error", "--read-timeout="+timeout.String())
	before := p.descriptors(t)
	p99 := p.during(t, func() {
		conns := p.connections(t, n)
		took := make([]time.Duration, n)
		var all sync.WaitGroup
		for i, conn := range conns {
			all.Go(func() {
				var err error
				took[i], err = drip(conn, i, time.Second)
				assert.NoError(t, err)
			})
		}
		all.Wait()
		slices.Sort(took)
		t.Logf("cut after %v to %v, half of them by %v", took[0], took[n-1], took[n/2])
		assert.Less(t, took[n-1], timeout+30*time.Second)
	})
	t.Logf("p99 of the others meanwhile: %v", p99)
	assert.Less(t, p99, timeout, "nobody waits for them")
	require.Eventually(t, func() bool { return p.descriptors(t) <= before+20 }, patience, 10*time.Millisecond, "nothing of them stays")
}

// The strict half of DOS-02: that a normal client's 99th percentile stays below twice its quiet one. Quiet and dripping
// windows alternate, and the median of their ratios counts. It wants a machine to itself, so `make slow-clients` asks for it.
func TestSlowClientsHoldNobodyUp(t *testing.T) {
	rounds, err := strconv.Atoi(cmp.Or(os.Getenv("COATCHECK_SLOW_ROUNDS"), "0"))
	require.NoError(t, err)
	const n, window = 2000, 5 * time.Second
	var ratios []float64
	for range rounds {
		p := startShipped(t, n, "--log-level=error")
		quiet := p.during(t, func() { time.Sleep(window) })
		stop, opened := make(chan struct{}), make(chan struct{}, n)
		var dripping sync.WaitGroup
		for i := range n {
			dripping.Go(func() { p.dripOn(t, i, stop, opened) })
		}
		for range n {
			<-opened
		}
		open := 0
		require.Eventually(t, func() bool { open = p.descriptors(t); return open > n }, patience, time.Millisecond, "they are there")
		crowded := p.during(t, func() { time.Sleep(window) })
		close(stop)
		dripping.Wait()
		ratios = append(ratios, float64(crowded)/float64(quiet))
		t.Logf("p99 quiet %v, beside %d dripping connections %v: %.2f", quiet, open, crowded, ratios[len(ratios)-1])
		p.signal(t, syscall.SIGTERM)
		assert.Equal(t, exitOK, p.wait(t))
	}
	if rounds > 0 {
		slices.Sort(ratios)
		t.Logf("median of the ratios: %.2f", ratios[rounds/2])
		assert.Less(t, ratios[rounds/2], 2.0)
	}
}

// dripOn opens another connection whenever one was cut.
func (p *process) dripOn(t *testing.T, nth int, stop <-chan struct{}, opened chan<- struct{}) {
	for first := true; ; first = false {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(p.url, "http://"), patience) //nolint:noctx // stop ends it
		if !assert.NoError(t, err) {
			return
		}
		if first {
			opened <- struct{}{}
		}
		done := make(chan struct{})
		go func() {
			select {
			case <-stop:
			case <-done:
			}
			_ = conn.Close() // the server may have done it
		}()
		_, _ = drip(conn, nth, time.Second) // that it ends is all that counts here
		close(done)
		select {
		case <-stop:
			return
		default:
		}
	}
}
