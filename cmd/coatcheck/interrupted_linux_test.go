package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/coatcheck/coatcheck/internal/testoutput"
)

// Commands that do not serve end by a signal, as programs do.
func TestSignalsEndOtherCommands(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		heed(sig)
		pipe := filepath.Join(t.TempDir(), "config")
		require.NoError(t, syscall.Mkfifo(pipe, 0o600))
		cmd, exited := runInBackground(t, "doctor", "--config", pipe)
		writer := awaitReader(t, pipe)
		require.NoError(t, cmd.Process.Signal(sig))
		awaitEnd(t, exited)
		require.NoError(t, writer.Close())
		assert.Equal(t, "signal: "+sig.String(), cmd.ProcessState.String())
	}
}

// A server whose configuration does not come, from a pipe for instance, ends by the first signal.
func TestSignalsEndAServerThatLoads(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for _, name := range []string{"--config", "--users-file"} {
			pipe := filepath.Join(t.TempDir(), "file")
			require.NoError(t, syscall.Mkfifo(pipe, 0o600))
			cmd, exited := runInBackground(t, "serve", "--dev", "--login=users", name, pipe)
			writer := awaitReader(t, pipe)
			require.NoError(t, cmd.Process.Signal(sig))
			awaitEnd(t, exited)
			require.NoError(t, writer.Close())
			assert.Equal(t, exitOK, cmd.ProcessState.ExitCode(), cmd.Stderr)
			assert.Contains(t, fmt.Sprint(cmd.Stderr), "("+sig.String()+")")
			assert.NotContains(t, fmt.Sprint(cmd.Stdout), "listens on")
		}
	}
}

// A Ctrl-C ends hash-password at its prompt, and the terminal shows again what is typed.
func TestInterruptAtThePrompt(t *testing.T) {
	t.Parallel()
	heed(syscall.SIGINT)
	master, terminal := openTerminal(t)
	var stderr testoutput.Buffer
	cmd := exec.CommandContext(context.Background(), program(t), "hash-password", "--user=ann")
	cmd.Env = environment()
	cmd.Stdin, cmd.Stderr = terminal, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	exited := startInBackground(t, cmd)
	require.Eventually(t, func() bool { return strings.Contains(stderr.String(), "Password: ") && !echoes(t, master) }, patience, time.Millisecond)
	_, err := master.Write([]byte{3}) // Ctrl-C
	require.NoError(t, err)
	awaitEnd(t, exited)
	assert.Equal(t, "signal: interrupt", cmd.ProcessState.String())
	assert.True(t, echoes(t, master))
}

// heed makes processes that the test starts end by the signal even if this one ignores it, as what nohup starts ignores a hang-up: they
// would inherit that, but a signal that is caught here has its usual effect there. It stays caught, which is as good as ignored, because
// other tests may start processes.
func heed(sig os.Signal) {
	if signal.Ignored(sig) {
		signal.Notify(make(chan os.Signal, 1), sig)
	}
}

// runInBackground runs the program with these arguments, and kills it when the test ends. The channel is closed when it has ended.
func runInBackground(t *testing.T, args ...string) (cmd *exec.Cmd, exited <-chan struct{}) {
	t.Helper()
	cmd = exec.CommandContext(context.Background(), program(t), args...)
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = new(bytes.Buffer), new(bytes.Buffer)
	return cmd, startInBackground(t, cmd)
}

func startInBackground(t *testing.T, cmd *exec.Cmd) (exited <-chan struct{}) {
	t.Helper()
	require.NoError(t, cmd.Start())
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = cmd.Wait() // how it ended is read from ProcessState
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has usually ended by itself
		<-over
	})
	return over
}

func awaitEnd(t *testing.T, exited <-chan struct{}) {
	t.Helper()
	select {
	case <-exited:
	case <-time.After(patience):
		require.Fail(t, "the process does not end")
	}
}

// awaitReader waits until somebody reads the pipe, and returns its writer: the reader waits until that is closed.
func awaitReader(t *testing.T, pipe string) (writer *os.File) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		writer, err = os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0) // it fails until somebody reads
		return err == nil
	}, patience, time.Millisecond)
	return writer
}

// openTerminal returns both ends of a new terminal: what a person types and sees, and what a program reads.
func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = master.Close() }) // nothing is left to write
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = terminal.Close() })
	return master, terminal
}

// echoes reports whether the terminal shows what is typed.
func echoes(t *testing.T, master *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS)
	require.NoError(t, err)
	return state.Lflag&unix.ECHO != 0
}
