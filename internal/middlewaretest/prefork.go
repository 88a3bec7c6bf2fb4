//go:build unix

package middlewaretest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/testport"
	"github.com/coatcheck/coatcheck/shardstore"
)

// preforkKey is the environment variable that makes a test binary an application with Prefork: "memory" or "shared", a
// blank, an address.
const preforkKey = "COATCHECK_TEST_PREFORK"

// Prefork is for the TestMain of an adapter whose framework can serve from several processes: it runs the tests, or, in a
// process that CheckPrefork has started, the application of serve. That application has the middleware on the store,
// answers "served" on / and ends its process on /stop.
func Prefork(m *testing.M, serve func(store coatcheck.Store, addr string) error) int {
	var kind, addr string
	if _, err := fmt.Sscan(os.Getenv(preforkKey), &kind, &addr); err != nil {
		return m.Run()
	}
	memory, err := shardstore.New(shardstore.Options{})
	if err != nil {
		panic(err)
	}
	store := coatcheck.Store(memory)
	if kind == "shared" {
		store = shared{memory}
	}
	if err := serve(store, addr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// shared is a store that claims to be the same one in each process.
type shared struct{ coatcheck.Store }

func (shared) Shared() bool { return true }

// patience is how long a test waits for a process to begin or end.
const patience = 30 * time.Second

// CheckPrefork checks that an application with Prefork does not start with a store of which each process would have its
// own, since most requests would be anonymous, and that it serves with a shared one.
func CheckPrefork(t *testing.T) {
	t.Run("memory store", func(t *testing.T) {
		p := startPrefork(t, "memory")
		require.Error(t, p.wait(t))
		assert.Contains(t, p.output.String(), "the store must be shared")
	})
	t.Run("shared store", func(t *testing.T) {
		p := startPrefork(t, "shared")
		require.Eventually(t, func() bool { return p.get(t, "/") == "served" }, patience, 10*time.Millisecond)
		p.get(t, "/stop") // a child that ends ends the application
		_ = p.wait(t)
		assert.NotContains(t, p.output.String(), "the store must be shared")
	})
}

// process is an application with Prefork.
type process struct {
	addr   string
	ended  chan struct{} // closed when it and its children have ended
	err    error         // may be read then
	output bytes.Buffer  // may be read then
}

func startPrefork(t *testing.T, kind string) *process {
	t.Helper()
	p := &process{addr: testport.Address(t), ended: make(chan struct{})}
	cmd := exec.Command(os.Args[0], "-test.run=^$") //nolint:noctx // it is ended with its children, below
	cmd.Env = append(os.Environ(), preforkKey+"="+kind+" "+p.addr)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	require.NoError(t, cmd.Start())
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() { // its children are in its process group
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-p.ended
	})
	return p
}

func (p *process) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-p.ended:
		return p.err
	case <-time.After(patience):
		require.Fail(t, "it goes on")
		return nil
	}
}

// get returns the body of an answer, "" for none.
func (p *process) get(t *testing.T, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+p.addr+path, http.NoBody)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // the body was read
	return string(body)
}
