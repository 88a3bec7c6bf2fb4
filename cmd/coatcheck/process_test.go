package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testoutput"
)

// patience bounds what a test waits for. Only a broken program makes a test wait that long, also on a busy machine.
const patience = 2 * time.Minute

// process is a running `coatcheck serve`.
type process struct {
	url, admin string // where it listens, as it printed that
	stdout     *testoutput.Buffer
	stderr     *testoutput.Buffer
	cmd        *exec.Cmd
	exited     chan struct{}
}

// start runs the built program with --dev on free ports and waits until it listens. It is killed when the test ends.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startIn(t, nil, args...)
}

// startWith is start with a standard error of the test's own.
func startWith(t *testing.T, stderr io.Writer, args ...string) *process {
	t.Helper()
	return startProgram(t, program(t), nil, stderr, args...)
}

// startIn is start with environment variables.
func startIn(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	stderr := new(testoutput.Buffer)
	p := startProgram(t, program(t), env, stderr, args...)
	p.stderr = stderr
	return p
}

func startProgram(t *testing.T, path string, env []string, stderr io.Writer, args ...string) *process {
	t.Helper()
	p := &process{stdout: new(testoutput.Buffer), stderr: new(testoutput.Buffer), exited: make(chan struct{})}
	// Not t.Context: it ends before the cleanups, and would kill what the test has just told to stop.
	p.cmd = exec.CommandContext(context.Background(), path, append([]string{"serve", "--dev", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"}, args...)...)
	p.cmd.Env = environment(env...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, stderr
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // the exit code is read from ProcessState
	}()
	t.Cleanup(func() {
		if os.Getenv("COATCHECK_TEST_COUNTERS") != "" { // a process that is killed writes no counters
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-p.exited:
			case <-time.After(patience):
			}
		}
		_ = p.cmd.Process.Kill() // it has usually ended by itself
		<-p.exited
		p.keepOutput(t)
		if t.Failed() {
			t.Logf("stdout:\n%s\nstderr:\n%s", p.stdout, stderr)
		}
	})
	require.Eventually(t, func() bool { return strings.Contains(p.stdout.String(), "listens on") || p.ended() },
		patience, 5*time.Millisecond)
	found := regexp.MustCompile(`https?://\S+`).FindAllString(p.stdout.String(), 2)
	require.Len(t, found, 2, "addresses in\n%s\n%s", p.stdout, stderr)
	p.url, p.admin = found[0], found[1]
	return p
}

// keepOutput leaves what the process wrote to scripts/canary, which looks for secrets in it.
func (p *process) keepOutput(t *testing.T) {
	t.Helper()
	dir := os.Getenv("COATCHECK_TEST_LOGS")
	if dir == "" {
		return
	}
	f, err := os.CreateTemp(dir, "process-*.log")
	require.NoError(t, err)
	_, err = f.WriteString(t.Name() + "\n" + p.stdout.String() + p.stderr.String())
	require.NoError(t, errors.Join(err, f.Close()))
}

// environment is that of the processes, without the settings of the person who runs the tests. The race detector's wait for late
// reports would make each exit take a second.
func environment(more ...string) []string {
	// Redis' answers may take longer on a busy machine than the default, half a second.
	all := append([]string{"GORACE=atexit_sleep_ms=0", "COATCHECK_REDIS_TIMEOUT=3s"}, more...)
	if dir, ok := os.LookupEnv("COATCHECK_TEST_COUNTERS"); ok { // scripts/cover; go test sets GOCOVERDIR itself
		all = append(all, "GOCOVERDIR="+dir)
	}
	return all
}

func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (p *process) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(sig))
}

// wait returns the exit code, -1 if a signal killed it.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		require.Fail(t, "the server does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// logged waits until the log contains the text.
func (p *process) logged(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(p.stderr.String(), text) }, patience, 5*time.Millisecond, text)
}

// ready returns the status of /readyz, 0 when nobody answers.
func (p *process) ready(t *testing.T) int {
	t.Helper()
	status, _ := p.askReady(t)
	return status
}

// readiness returns the body of /readyz.
func (p *process) readiness(t *testing.T) string {
	t.Helper()
	_, body := p.askReady(t)
	return body
}

func (p *process) askReady(t *testing.T) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.admin+"/readyz", http.NoBody)
	require.NoError(t, err)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode, string(text)
}

// becomes is Eventually in the goroutine of the caller, where a condition may call require.
func becomes(within, every time.Duration, condition func() bool) bool {
	for end := time.Now().Add(within); !condition(); time.Sleep(every) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
