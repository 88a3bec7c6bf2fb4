package main

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// watchers are connections that watch sessions on one or two nodes.
type watchers struct {
	nodes []*process
	conns []net.Conn // the ones that are idle until they watch; every second one is of the second node
	users []string   // by number of the connection
	sids  []string   // cookies
}

const shortTTL = 15 * time.Second

// TestManyWatchers lets a thousand watchers, or as many as COATCHECK_WATCHERS says, watch sessions, ten a session at most; ends a tenth of
// them by logout, revocation, the limit of sessions and expiry; and measures what they cost. docs/watch.md has the figures of ten thousand.
func TestManyWatchers(t *testing.T) {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("COATCHECK_WATCHERS"), "1000"))
	require.NoError(t, err)
	descriptors := n
	beside := func(*testing.T) {}
	if os.Getenv("COATCHECK_WATCHERS") == "" { // nothing is measured, and it waits for expiries most of the time
		beside, descriptors = (*testing.T).Parallel, 2*n
	}
	beside(t)
	flags := slices.Concat(unhurried, []string{
		"--log-level=error", "--max-sessions-per-user=2", "--ttl=" + shortTTL.String(), "--remember-ttl=10h",
		"--max-conns=" + strconv.Itoa(2*n+100),
	})
	t.Run("memory", func(t *testing.T) {
		beside(t)
		w := &watchers{nodes: []*process{startShipped(t, descriptors, flags...)}}
		w.measure(t, n, time.Second)
	})
	t.Run("two nodes with redis", func(t *testing.T) {
		beside(t)
		redis := redistest.Start(t, "maxmemory-policy noeviction")
		flags := append(flags, "--store="+redis.URL())
		w := &watchers{nodes: []*process{startShipped(t, descriptors, flags...), startShipped(t, descriptors, flags...)}}
		w.measure(t, n, 2*time.Second)
	})
}

func (w *watchers) at(i int) *process { return w.nodes[i%len(w.nodes)] }

// other is the node that ends the session of a watcher.
func (w *watchers) other(i int) *process { return w.nodes[(i+1)%len(w.nodes)] }

func (w *watchers) measure(t *testing.T, n int, bound time.Duration) {
	for _, node := range w.nodes {
		w.conns = append(w.conns, node.connections(t, n/len(w.nodes))...)
	}
	w.conns = interleave(w.conns, len(w.nodes))
	w.users, w.sids = make([]string, n), make([]string, n)
	ending := n / 10
	w.nodes[0].inParallel(t, n, func(i int) error {
		if i < ending && i%4 == 3 { // expires, and begins later
			return nil
		}
		first := i
		if i >= ending {
			first = ending + (i-ending)/20*20 + i%2 // ten of one node share a session
		}
		w.users[i] = "user-" + strconv.Itoa(first)
		return nil
	})
	w.nodes[0].inParallel(t, n, func(i int) error {
		if w.users[i] != "user-"+strconv.Itoa(i) {
			return nil
		}
		return w.login(i, true)
	})
	w.nodes[0].inParallel(t, n, func(i int) error {
		if w.users[i] == "" {
			return nil
		}
		if i >= ending {
			first, err := strconv.Atoi(strings.TrimPrefix(w.users[i], "user-"))
			if err != nil {
				return err
			}
			if first != i { // others read that one's meanwhile
				w.sids[i] = w.sids[first]
			}
		}
		return nil
	})
	w.nodes[0].inParallel(t, n, func(i int) error { // the connections that watch below were idle ones of the same users
		_, err := exchange(w.conns[i], bufio.NewReaderSize(w.conns[i], 1024), "GET /auth/me HTTP/1.1\r\nHost: localhost\r\nCookie: "+w.sids[i]+"\r\n\r\n")
		return err
	})
	idle, idleLive := w.memory(t)
	w.nodes[0].inParallel(t, n, func(i int) error {
		if w.users[i] == "" {
			return nil
		}
		return w.watch(i)
	})
	if os.Getenv("COATCHECK_WATCHERS") != "" {
		w.idleCost(t, n)
	}
	watching, watchingLive := w.memory(t) // goroutines without work stay for 10 s
	t.Logf("%d idle connections: %.1f MiB resident, %.1f MiB of them in use; as many watchers: %.1f MiB and %.1f MiB",
		n, mib(idle), mib(idleLive), mib(watching), mib(watchingLive))
	told := w.endAll(t, ending)
	for kind, name := range []string{"logout", "revocation", "the limit", "expiry"} {
		var of []time.Duration
		for i := kind; i < len(told); i += 4 {
			of = append(of, told[i])
		}
		slices.Sort(of)
		t.Logf("%d ended by %s were told; half within %v, 99 %% within %v", len(of), name, of[len(of)/2], of[len(of)*99/100])
	}
	slices.Sort(told)
	t.Logf("%d were told in all: half within %v, 99 %% within %v, the last within %v", len(told), told[len(told)/2], told[len(told)*99/100], told[len(told)-1])
	if n >= 10_000 {
		assert.Less(t, watchingLive-idleLive, 64<<20)
		assert.Less(t, told[len(told)*99/100], bound)
	}
	w.othersWatch(t, ending)
}

// interleave takes elements from the two halves of a list in turn.
func interleave(conns []net.Conn, parts int) []net.Conn {
	turned := make([]net.Conn, 0, len(conns))
	for i := range len(conns) / parts {
		for part := range parts {
			turned = append(turned, conns[part*len(conns)/parts+i])
		}
	}
	return turned
}

func mib(n int) float64 { return float64(n) / (1 << 20) }

// memory is that of all nodes after collections of garbage: as the kernel counts it, where the heap may be twice what is in use, and
// what is in use, heap and stacks.
func (w *watchers) memory(t *testing.T) (resident, live int) {
	t.Helper()
	for _, node := range w.nodes {
		for range 3 { // what is in a sync.Pool goes with the second
			_, err := request(node.admin+"/debug/pprof/heap?gc=1", http.MethodGet, "", "")
			require.NoError(t, err)
		}
		_, page := node.scrape(t)
		for _, m := range inUse.FindAllStringSubmatch(page, -1) {
			bytes, err := strconv.ParseFloat(m[1], 64)
			require.NoError(t, err)
			live += int(bytes)
		}
		resident += node.resident(t)
	}
	return resident, live
}

var inUse = regexp.MustCompile(`(?m)^go_memstats_(?:heap_alloc|stack_inuse)_bytes (\S+)$`)

// idleCost measures the processors' time that watchers take while no session ends.
func (w *watchers) idleCost(t *testing.T, n int) {
	t.Helper()
	length := 3 * time.Second
	if n >= 10_000 {
		length = time.Minute
	}
	used := func() (sum time.Duration) {
		for _, node := range w.nodes {
			sum += node.processorTime(t)
		}
		return sum
	}
	before, began := used(), time.Now()
	time.Sleep(length)
	share := float64(used()-before) / float64(time.Since(began))
	t.Logf("%.2f %% of a core while nothing happens", 100*share)
	if n >= 10_000 && len(w.nodes) == 1 {
		t.Cleanup(func() { assert.Less(t, share, 0.02) }) // the endings are measured all the same
	}
}

// processorTime is what the process has used of all processors.
func (p *process) processorTime(t *testing.T) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	require.NoError(t, err)
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int
	for _, i := range []int{11, 12} { // of the user, of the system: in hundredths of a second
		used, err := strconv.Atoi(fields[i])
		require.NoError(t, err)
		ticks += used
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func (w *watchers) login(i int, remember bool) error {
	w.users[i] = "user-" + strconv.Itoa(i)
	set, err := request(w.at(i).url+"/auth/login", http.MethodPost, "", fmt.Sprintf(`{"user_id":%q,"remember":%v}`, w.users[i], remember))
	if err != nil {
		return err
	}
	w.sids[i] = set
	return nil
}

// request sends a request, and returns the cookie that the answer sets.
func request(url, method, cookie, body string) (set string, err error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body)) //nolint:noctx // the client has a timeout
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Cookie", cookie)
	client := http.Client{Timeout: patience}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // nothing was written
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s %s", method, url, resp.Status, text)
	}
	set, _, _ = strings.Cut(resp.Header.Get("Set-Cookie"), ";")
	return set, err
}

// watch sends the request and reads up to the first event's end.
func (w *watchers) watch(i int) error {
	conn := w.conns[i]
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET /auth/watch HTTP/1.1\r\nHost: localhost\r\nCookie: "+w.sids[i]+"\r\n\r\n"); err != nil {
		return err
	}
	var text []byte
	for !bytes.Contains(text, []byte("event: session\ndata: {")) {
		part := make([]byte, 1024)
		got, err := conn.Read(part)
		if err != nil {
			return fmt.Errorf("%w after %q", err, text)
		}
		text = append(text, part[:got]...)
	}
	return conn.SetDeadline(time.Time{})
}

// endAll ends the sessions of the first watchers, and returns how long after that each was told: after the answer to the request that
// ended it, or after the moment of its expiry.
func (w *watchers) endAll(t *testing.T, ending int) []time.Duration {
	t.Helper()
	told := make([]time.Duration, ending)
	var all sync.WaitGroup
	w.nodes[0].inParallel(t, ending, func(i int) error {
		reason := "ended"
		var earliest, ended time.Time // no session of which earliest is unset expires
		var err error
		if i%4 == 3 {
			reason = "expired"
			earliest = time.Now().Add(shortTTL)
			if err := w.login(i, false); err != nil {
				return err
			}
			ended = time.Now().Add(shortTTL)
			err = w.watch(i)
		} else {
			err = w.end(i)
			ended = time.Now()
		}
		if err != nil {
			return err
		}
		all.Go(func() {
			_ = w.conns[i].SetDeadline(time.Now().Add(patience))
			in := bufio.NewReader(w.conns[i])
			text, err := readUntil(in, "event: ended\n")
			told[i] = max(0, time.Since(ended))
			if !assert.NoError(t, err, "%s after %q", w.users[i], text) {
				return
			}
			assert.Greater(t, time.Since(earliest), -time.Second, "%s was told before the session expired", w.users[i])
			rest, err := in.ReadString('}')
			assert.NoError(t, err)
			assert.Equal(t, `data: {"reason":"`+reason+`"}`, rest)
			rest, err = readUntil(in, "\r\n0\r\n\r\n")
			assert.NoError(t, err, "the stream ends")
			assert.NotContains(t, rest, "event:", "told once")
		})
		return nil
	})
	all.Wait()
	require.False(t, t.Failed())
	return told
}

// end ends the session of a watcher by another node, if there is one.
func (w *watchers) end(i int) (err error) {
	switch node := w.other(i); i % 4 {
	case 0:
		_, err = request(node.url+"/auth/logout", http.MethodPost, w.sids[i], "")
	case 1:
		_, err = request(node.admin+"/admin/users/"+w.users[i]+"/sessions", http.MethodDelete, "", "")
	default: // beyond the limit
		for range 2 {
			if _, err = request(node.url+"/auth/login", http.MethodPost, "", fmt.Sprintf(`{"user_id":%q}`, w.users[i])); err != nil {
				return err
			}
		}
	}
	return err
}

func readUntil(in *bufio.Reader, end string) (text string, err error) {
	for !strings.HasSuffix(text, end) {
		b, err := in.ReadByte()
		if err != nil {
			return text, err
		}
		text += string(b)
	}
	return text, nil
}

var watching = regexp.MustCompile(`(?m)^coatcheck_watchers (\d+)$`)

// othersWatch checks that the other watchers got no event, only comments that keep the connection alive: they still watch, and the test
// reads all that they were sent up to the end, which comes when the nodes stop.
func (w *watchers) othersWatch(t *testing.T, ending int) {
	t.Helper()
	others := len(w.conns) - ending
	goOn := becomes(patience, 100*time.Millisecond, func() bool {
		sum := 0
		for _, node := range w.nodes {
			_, page := node.scrape(t)
			if m := watching.FindStringSubmatch(page); m != nil {
				n, _ := strconv.Atoi(m[1])
				sum += n
			}
		}
		return sum == others
	})
	require.True(t, goOn, "the others' streams go on")
	for _, node := range w.nodes {
		node.signal(t, syscall.SIGTERM)
	}
	w.nodes[0].inParallel(t, others, func(i int) error {
		conn := w.conns[ending+i]
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		text, err := io.ReadAll(conn)
		assert.NotContains(t, string(text), "event:")
		return err
	})
}
