// Package redistest starts redis-server processes for tests: one, a Cluster, or a primary with its replica and Sentinels.
// They listen on free ports of the loopback interface, keep nothing unless they are told to, and are killed when the test
// ends. On a machine without redis-server the test fails; it is not skipped. REDISTEST_SERVER in the environment names
// another program.
package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck/coatcheck/internal/testport"
)

// Server is one redis-server process, which may be stopped and started again on its port.
type Server struct {
	Port    int
	TLSPort int // with StartTLS

	t    testing.TB
	conf string
	args []string

	mu    sync.Mutex
	cmd   *exec.Cmd      // guarded by mu; nil while it is down
	admin rueidis.Client // guarded by mu; made when first used
}

// Start starts a server with these lines in its configuration, beside those that keep it on loopback and off the disk.
func Start(t testing.TB, config ...string) *Server {
	t.Helper()
	return start(t, testport.Free(t), config)
}

// StartTLS starts a server that also speaks TLS, to clients which show a certificate of the same authority.
func StartTLS(t testing.TB, ca, cert, key string) *Server {
	t.Helper()
	port := testport.Free(t)
	s := Start(t, fmt.Sprintf("tls-port %d", port), "tls-ca-cert-file "+ca, "tls-cert-file "+cert, "tls-key-file "+key)
	s.TLSPort = port
	return s
}

func start(t testing.TB, port int, config []string, args ...string) *Server {
	t.Helper()
	dir := t.TempDir()
	s := &Server{Port: port, t: t, conf: filepath.Join(dir, "redis.conf"), args: args}
	lines := []string{
		fmt.Sprintf("port %d", port), "bind 127.0.0.1", "dir " + dir, "logfile " + filepath.Join(dir, "log"),
		"daemonize no",
	}
	if len(args) == 0 { // not a Sentinel
		lines = append(lines, `save ""`, "appendonly no", "repl-diskless-sync-delay 0", "enable-debug-command local")
	}
	lines = append(lines, config...) // the last line of a name counts
	if err := os.WriteFile(s.conf, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	s.Restart()
	return s
}

// Addr returns host and port.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// PortText returns the port.
func (s *Server) PortText() string { return strconv.Itoa(s.Port) }

// URL returns the server's URL.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// program is the server to test with: redis-server, or what the environment names, such as another version or Valkey.
func program() string {
	if name := os.Getenv("REDISTEST_SERVER"); name != "" {
		return name
	}
	return "redis-server"
}

// Restart starts the server after Kill, without data unless its configuration keeps it, and returns when it answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd := exec.Command(program(), append([]string{s.conf}, s.args...)...) //nolint:noctx,gosec // it lives as long as the test
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("%s: %v", program(), err)
	}
	s.cmd = cmd
	Eventually(s.t, time.Minute, "redis-server to answer", s.answers)
}

func (s *Server) answers() bool {
	conn, err := (&net.Dialer{Timeout: time.Second}).Dial("tcp", s.Addr())
	if err != nil {
		return false
	}
	defer conn.Close() //nolint:errcheck // the connection only asked a question
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write([]byte("PING\r\n"))
	buf := make([]byte, 5)
	n, _ := conn.Read(buf)
	return n > 0 && (buf[0] == '+' || strings.HasPrefix(string(buf), "-NOAU"))
}

// Kill kills the server with SIGKILL and returns when it is gone.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.admin != nil {
		s.admin.Close()
		s.admin = nil
	}
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(syscall.SIGKILL)
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// Signal sends a signal: SIGSTOP and SIGCONT make it hang and go on. Signal returns once the server hangs: SIGSTOP does not
// stop a process at once, so the server could still answer.
func (s *Server) Signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
	if sig != syscall.SIGSTOP {
		return
	}
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(s.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			s.t.Fatalf("redis-server does not stop: %v", err)
		case !status.Stopped():
			s.t.Fatalf("redis-server ended where it should have stopped: %v", status)
		default:
			return
		}
	}
}

// Do sends a command directly to the server, past what is being tested.
func (s *Server) Do(args ...string) rueidis.RedisResult {
	s.t.Helper()
	s.mu.Lock()
	if s.admin == nil {
		client, err := rueidis.NewClient(rueidis.ClientOption{
			InitAddress: []string{s.Addr()}, ForceSingleClient: true, DisableCache: true, DisableRetry: true, PipelineMultiplex: -1,
			RingScaleEachConn: 8, ConnWriteTimeout: time.Minute,
		})
		if err != nil {
			s.mu.Unlock()
			s.t.Fatal(err)
		}
		s.admin = client
	}
	client := s.admin
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return client.Do(ctx, client.B().Arbitrary(args...).Build())
}

// Must is Do, with an error failing the test, and returns the answer as text.
func (s *Server) Must(args ...string) string {
	s.t.Helper()
	msg, err := s.Do(args...).ToMessage()
	if err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
	if n, err := msg.AsInt64(); err == nil {
		return strconv.FormatInt(n, 10)
	}
	if v, err := msg.ToString(); err == nil {
		return v
	}
	return msg.String()
}

// Eventually waits until f is true.
func Eventually(t testing.TB, within time.Duration, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", within, what)
		}
	}
}
