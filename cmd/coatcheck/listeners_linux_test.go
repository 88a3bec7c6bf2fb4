package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/daemon"
	"github.com/coatcheck/coatcheck/internal/testoutput"
)

// launch starts serve by a shell script that ends in exec "$@", and waits until it listens. The returned function stops it.
func launch(t *testing.T, script string, files []*os.File, args ...string) (p *process, stop func()) {
	t.Helper()
	p = &process{stdout: new(testoutput.Buffer), stderr: new(testoutput.Buffer), exited: make(chan struct{})}
	p.cmd = exec.CommandContext(context.Background(), "/bin/sh", append([]string{"-c", script + `exec "$@"`, "sh", program(t), "serve", "--dev"},
		args...)...) //nolint:gosec // a script of this file
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = environment(), p.stdout, p.stderr, files
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // the exit code is read from ProcessState
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has usually ended by itself
		<-p.exited
		if t.Failed() {
			t.Logf("stdout:\n%s\nstderr:\n%s", p.stdout, p.stderr)
		}
	})
	require.Eventually(t, func() bool { return strings.Contains(p.stdout.String(), "listens on") || p.ended() }, patience, 5*time.Millisecond)
	require.False(t, p.ended())
	return p, func() {
		t.Helper()
		p.signal(t, syscall.SIGTERM)
		require.Equal(t, exitOK, p.wait(t))
	}
}

// overSocket returns a client of a Unix socket.
func overSocket(t *testing.T, path string) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// CASES C9: both listeners as Unix sockets. The client's address comes from the proxy.
func TestUnixSockets(t *testing.T) {
	t.Parallel()
	public, admin := filepath.Join(t.TempDir(), "public"), filepath.Join(t.TempDir(), "admin")
	_, stop := launch(t, "", nil, "--listen=unix:"+public, "--admin-listen=unix:"+admin+"?mode=0600")
	client := overSocket(t, public)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/auth/login", strings.NewReader(`{"user_id":"user-42"}`))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Forwarded-For", "203.0.113.9, 192.0.2.7")
	resp, err := client.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, 200, resp.StatusCode)

	command := func(args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		require.Equal(t, exitOK, run(args, nil, daemon.Signals{}, strings.NewReader(""), &stdout, &stderr), "%s", &stderr)
		return stdout.String()
	}
	jar := t.TempDir()
	for _, line := range daemon.CurlLines("unix:" + public) {
		try := exec.CommandContext(t.Context(), "sh", "-c", line)
		try.Dir = jar
		out, err := try.CombinedOutput()
		assert.NoError(t, err, "%s\n%s", line, out)
		assert.Regexp(t, ` 20[04]\n$`, string(out), line)
	}
	assert.Equal(t, "alive\n", command("healthcheck", "--admin-listen=unix:"+admin))
	assert.Contains(t, command("sessions", "list", "user-42", "--admin-listen=unix:"+admin+"?mode=0600"), "192.0.2.7")
	assert.Equal(t, "1 session ended\n", command("sessions", "revoke", "user-42", "--admin-url=unix:"+admin))
	var stdout, stderr bytes.Buffer
	run([]string{"doctor", "--dev", "--listen=unix:" + public, "--admin-listen=unix:" + admin}, nil, daemon.Signals{}, strings.NewReader(""), &stdout, &stderr)
	assert.Contains(t, stdout.String(), "unix:"+admin+" is ready")
	stop()
	assert.NoFileExists(t, public)
	assert.NoFileExists(t, admin)
	assert.Equal(t, exitFailed, run([]string{"healthcheck", "--admin-listen=unix:" + admin}, nil, daemon.Signals{}, strings.NewReader(""), io.Discard, &stderr))
	assert.Contains(t, stderr.String(), "nobody listens at unix:"+admin)
}

// CASES A3: connections that take all descriptors leave the operator some.
func TestIdleConnectionsLeaveDescriptors(t *testing.T) {
	t.Parallel()
	p, stop := launch(t, "ulimit -n 300\n", nil, append(unhurried, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0")...)
	_, err := fmt.Sscanf(p.stdout.String(), "coatcheck listens on %s\ncoatcheck listens on %s\n", &p.url, &p.admin)
	require.NoError(t, err)
	for range 400 {
		conn := p.dial(t)
		_, err := io.WriteString(conn, "GET /auth/me HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(t, err)
		b := make([]byte, 12)
		_, err = io.ReadFull(conn, b)
		require.NoError(t, err, "each of them is answered")
	}
	var stdout, stderr bytes.Buffer
	assert.Equal(t, exitOK, run([]string{"healthcheck", "--admin-listen=" + strings.TrimPrefix(p.admin, "http://")}, nil, daemon.Signals{},
		strings.NewReader(""), &stdout, &stderr), "%s", &stderr)
	assert.Equal(t, exitOK, run([]string{"sessions", "revoke", "user-42", "--admin-url=" + p.admin}, nil, daemon.Signals{}, strings.NewReader(""), &stdout, &stderr), "%s", &stderr)
	p.signal(t, syscall.SIGHUP)
	p.logged(t, "re-read")
	assert.NotContains(t, p.stderr.String(), "too many open files")
	assert.Contains(t, p.stderr.String(), "max_conns=188")
	stop()
}

// A restart of a server that got its socket from systemd refuses and loses no request.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // systemd's sockets are none, and the server could do less to one
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	file, err := ln.(*net.TCPListener).File()
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	defer func() { _ = file.Close() }()
	serve := func() (*process, func()) {
		return launch(t, "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=coatcheck.socket\nexport LISTEN_PID LISTEN_FDS LISTEN_FDNAMES\n",
			[]*os.File{file}, "--admin-listen=off", "--listen=127.0.0.1:1")
	}
	p, stop := serve()
	require.Contains(t, p.stdout.String(), ln.Addr().String())
	var answered atomic.Int64
	ended := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			transport := &http.Transport{DisableKeepAlives: i%2 == 0}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: patience}
			for {
				select {
				case <-ended:
					return
				default:
				}
				req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+ln.Addr().String()+"/auth/logout", http.NoBody)
				if !assert.NoError(t, err) {
					return
				}
				resp, err := client.Do(req)
				if !assert.NoError(t, err, "refused or lost") {
					return
				}
				assert.Equal(t, 204, resp.StatusCode)
				assert.NoError(t, resp.Body.Close())
				answered.Add(1)
			}
		})
	}
	more := func() {
		t.Helper()
		n := answered.Load() + 50
		require.Eventually(t, func() bool { return answered.Load() > n || t.Failed() }, patience, time.Millisecond)
	}
	more()
	for range 2 {
		stop()
		_, stop = serve()
		more()
	}
	close(ended)
	clients.Wait()
	stop()
}
