//go:build real

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/bench/internal/process"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/shardstore"
)

const cookieName = "coatcheck"

// nodeOptions is what a node is started with; no URL is the memory store.
type nodeOptions struct {
	URL                  string
	RenewEvery, CacheTTL time.Duration
}

// nodeEnv makes the test binary a node.
const nodeEnv = "COATCHECK_CAPACITY_NODE"

func TestMain(m *testing.M) {
	if text := os.Getenv(nodeEnv); text != "" {
		if err := serveNode(text, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveNode is a coatcheck node. It prints its address, then its store's counts for each line that it reads, and ends with
// the input.
func serveNode(text string, in io.Reader, out io.Writer) error {
	var opt nodeOptions
	if err := json.Unmarshal([]byte(text), &opt); err != nil {
		return err
	}
	store, stats, err := nodeStore(opt)
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // the process ends
	srv, err := server.New(store, server.Config{
		Cookie: server.Cookie{Name: cookieName, Insecure: true}, Login: login.Open{}, Logger: slog.New(slog.DiscardHandler),
		Policy: coatcheck.Policy{TTL: 12 * time.Hour, MaxLifetime: 12 * time.Hour, RenewEvery: opt.RenewEvery},
	})
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, listener.Addr()); err != nil {
		return err
	}
	go func() { _ = srv.Serve(listener) }() // until the process ends
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if err := json.NewEncoder(out).Encode(stats()); err != nil {
			return err
		}
	}
	return lines.Err()
}

func nodeStore(opt nodeOptions) (coatcheck.Store, func() redisstore.Stats, error) {
	if opt.URL == "" {
		store, err := shardstore.New(shardstore.Options{})
		return store, func() redisstore.Stats { return redisstore.Stats{} }, err
	}
	store, err := redisstore.New(context.Background(), redisstore.Options{
		URL: opt.URL, CacheTTL: opt.CacheTTL, Timeout: 3 * time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, nil, err
	}
	return store, store.Stats, nil
}

// node is a running node, and a client of it.
type node struct {
	tb     testing.TB
	addr   string
	pid    int
	in     io.Writer
	out    *bufio.Reader
	client *fasthttp.HostClient
}

func startNode(tb testing.TB, opt nodeOptions) *node {
	tb.Helper()
	self, err := os.Executable()
	require.NoError(tb, err)
	text, err := json.Marshal(opt)
	require.NoError(tb, err)
	cmd := exec.Command(self) //nolint:noctx // it lives as long as the test
	cmd.Env = append(os.Environ(), nodeEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(tb, err)
	out, err := cmd.StdoutPipe()
	require.NoError(tb, err)
	require.NoError(tb, cmd.Start())
	n := &node{tb: tb, pid: cmd.Process.Pid, in: in, out: bufio.NewReader(out)}
	tb.Cleanup(func() {
		_ = in.Close() // which ends it; a test that is killed closes it too
		_ = cmd.Wait()
	})
	n.addr, err = n.out.ReadString('\n')
	require.NoError(tb, err)
	n.addr = strings.TrimSpace(n.addr)
	n.client = &fasthttp.HostClient{Addr: n.addr, MaxConns: 4096}
	return n
}

// stats asks the node for its store's counts.
func (n *node) stats() (st redisstore.Stats) {
	n.tb.Helper()
	_, err := fmt.Fprintln(n.in)
	require.NoError(n.tb, err)
	line, err := n.out.ReadBytes('\n')
	require.NoError(n.tb, err)
	require.NoError(n.tb, json.Unmarshal(line, &st))
	return st
}

// cpu is the processor time of the node in microseconds, in steps of ten thousand.
func (n *node) cpu() float64 {
	n.tb.Helper()
	used, err := process.CPUOf(n.pid)
	require.NoError(n.tb, err)
	return float64(used.Total().Microseconds())
}

// resident is how many bytes of memory the node has.
func (n *node) resident() float64 {
	n.tb.Helper()
	bytes, err := process.Resident(n.pid)
	require.NoError(n.tb, err)
	return float64(bytes)
}

const userAgent = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"

// send sends one request and returns the cookie that the answer set, or the one that was sent. A 200 must be of a session
// that lives.
func (n *node) send(method, path, cookie, body string, status int) (string, error) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.Header.SetMethod(method)
	req.Header.SetUserAgent(userAgent)
	req.SetRequestURI("http://" + n.addr + path)
	if cookie != "" {
		req.Header.SetCookie(cookieName, cookie)
	}
	if body != "" {
		req.Header.SetContentType("application/json")
		req.SetBodyString(body)
	}
	if err := n.client.DoTimeout(req, resp, 20*time.Second); err != nil {
		return "", err
	}
	if resp.StatusCode() != status {
		return "", fmt.Errorf("%s %s: status %d, want %d: %s", method, path, resp.StatusCode(), status, resp.Body())
	}
	if status == 200 && !bytes.HasPrefix(resp.Body(), []byte(`{"authenticated":true,`)) {
		return "", fmt.Errorf("%s %s: the session does not live: %s", method, path, resp.Body())
	}
	var k fasthttp.Cookie
	if err := k.ParseBytes(resp.Header.PeekCookie(cookieName)); err == nil && len(k.Value()) == coatcheck.TokenLen {
		return string(k.Value()), nil
	}
	return cookie, nil
}

func (n *node) login(user string) (string, error) {
	return n.send("POST", "/auth/login", "", fmt.Sprintf(`{"user_id":%q}`, user), 200)
}

func (n *node) me(cookie string) error {
	_, err := n.send("GET", "/auth/me", cookie, "", 200)
	return err
}

func (n *node) refresh(cookie string) (string, error) {
	return n.send("POST", "/auth/refresh", cookie, "", 200)
}

func (n *node) logout(cookie string) error {
	_, err := n.send("POST", "/auth/logout", cookie, "", 204)
	return err
}
