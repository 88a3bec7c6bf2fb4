//go:build unix

package fibersession_test

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

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/fibersession"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/shardstore"
)

// preforkKey is the variable that makes the test binary an application with Prefork: "memory" or "shared", a blank, an address.
const preforkKey = "COATCHECK_TEST_PREFORK"

func TestMain(m *testing.M) {
	if how := os.Getenv(preforkKey); how != "" {
		if err := prefork(how); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// shared is a store that claims to be the same one in each process.
type shared struct{ coatcheck.Store }

func (shared) Shared() bool { return true }

func prefork(how string) error {
	var kind, addr string
	if _, err := fmt.Sscan(how, &kind, &addr); err != nil {
		return err
	}
	memory, err := shardstore.New(shardstore.Options{})
	if err != nil {
		return err
	}
	store := coatcheck.Store(memory)
	if kind == "shared" {
		store = shared{memory}
	}
	sessions, err := fibersession.New(store, fibersession.Config{})
	if err != nil {
		return err
	}
	app := fiber.New(fiber.Config{Prefork: true, DisableStartupMessage: true})
	app.Use(sessions)
	app.Get("/", func(c *fiber.Ctx) error {
		return c.SendString(fmt.Sprint(fiber.IsChild(), fibersession.Get(c).UserID()))
	})
	app.Get("/stop", func(*fiber.Ctx) error { // a child that ends ends the application
		os.Exit(0)
		return nil
	})
	return app.Listen(addr)
}

// startPrefork starts the test binary as an application with Prefork. Its output may be read once ended is closed.
func startPrefork(t *testing.T, kind string) (addr string, output *bytes.Buffer, ended <-chan error) {
	t.Helper()
	ln := httpcontract.Listen(t)
	addr = ln.Addr().String()
	require.NoError(t, ln.Close())
	cmd := exec.Command(os.Args[0], "-test.run=^$") //nolint:noctx // it is ended with its children, below
	cmd.Env = append(os.Environ(), preforkKey+"="+kind+" "+addr)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	output = new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = output, output
	require.NoError(t, cmd.Start())
	done := make(chan error, 1)
	go func() {
		done <- cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() { // its children are of its group
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-done
	})
	return addr, output, done
}

const patience = 30 * time.Second

// B14: each process would have sessions of its own, and most requests would be anonymous.
func TestPreforkNeedsASharedStore(t *testing.T) {
	_, output, ended := startPrefork(t, "memory")
	select {
	case err := <-ended:
		require.Error(t, err)
		assert.Contains(t, output.String(), "the store must be shared")
	case <-time.After(patience):
		require.Fail(t, "it goes on")
	}
}

func TestPreforkWithASharedStore(t *testing.T) {
	addr, output, ended := startPrefork(t, "shared")
	get := func(path string) (string, error) {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+addr+path, http.NoBody)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close() //nolint:errcheck // it was read
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	require.Eventually(t, func() bool {
		body, err := get("/")
		return err == nil && body == "true"
	}, patience, 10*time.Millisecond, "a child serves")
	_, _ = get("/stop") // which answers nothing
	select {
	case <-ended:
		assert.NotContains(t, output.String(), "the store must be shared")
	case <-time.After(patience):
		require.Fail(t, "it goes on")
	}
}
