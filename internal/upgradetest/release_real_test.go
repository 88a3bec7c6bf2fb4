//go:build real

package upgradetest_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testoutput"
)

// commitBefore is the release before this one, which knows version 1 of the codec only. Whoever tags a release sets it to
// that tag's commit.
const commitBefore = "adf9c646c23c7953a60ccb8594728ed88c96f6d0"

// patience bounds what a test waits for; nothing waits that long unless it is broken.
const patience = 20 * time.Second

// release is a built program.
type release struct{ name, program string }

var before, current release

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "upgradetest")
	if err == nil {
		defer os.RemoveAll(dir) //nolint:errcheck // nothing depends on it
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// build builds both releases, the one before from an archive of its commit.
func build(dir string) error {
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	source := filepath.Join(dir, "before")
	before = release{"the release before", filepath.Join(dir, "coatcheck-before")}
	current = release{"this release", filepath.Join(dir, "coatcheck-current")}
	if err := os.Mkdir(source, 0o700); err != nil {
		return err
	}
	archive := filepath.Join(dir, "before.tar")
	for _, c := range []struct {
		dir  string
		args []string
	}{
		{root, []string{"git", "archive", "-o", archive, commitBefore}},
		{source, []string{"tar", "-xf", archive}},
		{source, []string{"go", "build", "-buildvcs=false", "-o", before.program, "./cmd/coatcheck"}},
		{root, []string{"go", "build", "-buildvcs=false", "-o", current.program, "./cmd/coatcheck"}},
	} {
		cmd := exec.CommandContext(context.Background(), c.args[0], c.args[1:]...)
		cmd.Dir = c.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s(a shallow clone lacks the commit: git fetch --unshallow)", strings.Join(c.args, " "), err, out)
		}
	}
	return nil
}

// node is a running server.
type node struct {
	release
	url, admin string
	client     netip.Addr // where call comes from, as told by a proxy that the node trusts; the zero Addr: this machine
	cmd        *exec.Cmd
	out        *testoutput.Buffer
	exited     chan struct{}
}

// start runs a server in mode open on free ports and waits until it listens. It is killed when the test ends.
func (r release) start(t *testing.T, args ...string) *node {
	t.Helper()
	n := &node{release: r, out: new(testoutput.Buffer), exited: make(chan struct{})}
	args = append([]string{"serve", "--dev", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--max-sessions-per-user=4"}, args...)
	n.cmd = exec.CommandContext(context.Background(), r.program, args...) // not t.Context: it ends before the cleanups
	n.cmd.Env = []string{"COATCHECK_REDIS_TIMEOUT=3s"}                    // the default is too short on a busy machine
	stdout := new(testoutput.Buffer)
	n.cmd.Stdout, n.cmd.Stderr = stdout, n.out
	require.NoError(t, n.cmd.Start())
	go func() {
		defer close(n.exited)
		_ = n.cmd.Wait() // the exit code is read from ProcessState
	}()
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			t.Logf("%s:\n%s", n.name, n.out)
		}
	})
	addresses := regexp.MustCompile(`https?://\S+`) // the first two are where it listens
	require.Eventually(t, func() bool {
		found := addresses.FindAllString(stdout.String(), 2)
		if len(found) == 2 {
			n.url, n.admin = found[0], found[1]
		}
		return len(found) == 2 || n.ended()
	}, patience, 5*time.Millisecond, n.name)
	require.False(t, n.ended(), "%s ended: %s", n.name, n.out)
	return n
}

func (n *node) ended() bool {
	select {
	case <-n.exited:
		return true
	default:
		return false
	}
}

// kill ends the server as a power cut of the process would.
func (n *node) kill() {
	_ = n.cmd.Process.Kill() // it may have ended by itself
	<-n.exited
}

// stop lets the server end in its own time.
func (n *node) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, n.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-n.exited:
	case <-time.After(patience):
		require.Fail(t, "the server does not end", n.name)
	}
	require.Zero(t, n.cmd.ProcessState.ExitCode(), "%s", n.out)
}
