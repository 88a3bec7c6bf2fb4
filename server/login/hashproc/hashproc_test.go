package hashproc_test

import (
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/crypto/argon2"

	"github.com/coatcheck/coatcheck/internal/testoutput"

	"github.com/coatcheck/coatcheck/server/login/hashproc"
)

// The test program is also the other process: then its only argument says how it behaves.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && !strings.HasPrefix(os.Args[1], "-") {
		if err := behave(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func behave(how string) error {
	switch how {
	case "serve":
		return hashproc.Serve(os.Stdin, os.Stdout)
	case "prompt": // it does not yield its core to other programs
		return hashproc.ServePromptly(os.Stdin, os.Stdout)
	case "marked": // its tags differ from those computed here
		return reply(1, func(string) string { return marked })
	case "reversed": // it waits for four jobs and answers the last one first, each with its own password
		return reply(4, func(password string) string { return password })
	case "short":
		return reply(1, func(string) string { return marked[1:] })
	case "silent":
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	case "deaf":
		time.Sleep(time.Hour)
		return nil
	case "senseless":
		_, err := os.Stdout.WriteString("this is no gob\n")
		return err
	case "quit":
		return nil
	default:
		return fmt.Errorf("%q?", how)
	}
}

// reply answers so many jobs at a time.
func reply(atOnce int, tag func(password string) string) error {
	type result struct {
		ID  uint64
		Tag []byte
	}
	jobs, results := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	for {
		var answers []result
		for range atOnce {
			var j struct {
				ID       uint64
				Password []byte
			}
			if err := jobs.Decode(&j); err != nil {
				return err
			}
			answers = append(answers, result{j.ID, []byte(tag(string(j.Password)))})
		}
		for _, r := range slices.Backward(answers) {
			if err := results.Encode(r); err != nil {
				return err
			}
		}
	}
}

const marked = "computed over there by the other" // 32 bytes

var salt = []byte("a salt of 16 byt")

// little is a hash as cheap as argon2id goes.
func little(p *hashproc.Pool, password string) []byte {
	return p.IDKey([]byte(password), salt, 2, 16, 1, 32)
}

func want(password string) []byte { return argon2.IDKey([]byte(password), salt, 2, 16, 1, 32) }

// poolOf returns a pool whose process behaves that way, and the pool's log. Its timeout, and its pause after a process was given up,
// are longer than any test takes.
func poolOf(t *testing.T, how string) (*hashproc.Pool, *testoutput.Buffer) {
	t.Helper()
	log := new(testoutput.Buffer)
	command := func() *exec.Cmd { return exec.CommandContext(context.Background(), os.Args[0], how) }
	p := hashproc.New(command, slog.New(slog.NewTextHandler(log, nil)))
	p.SetTimeout(time.Hour)
	p.SetPause(time.Hour)
	t.Cleanup(func() {
		_, ended := p.Process()
		p.Close()
		if ended != nil {
			<-ended
		}
	})
	return p, log
}

func TestIDKey(t *testing.T) {
	p, log := poolOf(t, "prompt")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			password := fmt.Sprint("password ", i)
			assert.Equal(t, want(password), little(p, password))
		})
	}
	all.Wait()
	assert.Equal(t, argon2.IDKey([]byte("x"), salt, 3, 64, 2, 16), p.IDKey([]byte("x"), salt, 3, 64, 2, 16), "other parameters")
	assert.NotContains(t, log.String(), "in the server")
}

func TestComputedOverThere(t *testing.T) {
	p, log := poolOf(t, "marked")
	for range 3 {
		assert.Equal(t, marked, string(little(p, "a")))
	}
	_, ended := p.Process()
	p.Close()
	p.Close()
	<-ended
	assert.Equal(t, want("a"), little(p, "a"), "after Close")
	assert.Empty(t, log.String(), "nothing went wrong")
}

// Each caller gets the result of its own job, in whatever order the process answers.
func TestEachHasHisOwn(t *testing.T) {
	p, _ := poolOf(t, "reversed")
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			password := fmt.Sprintf("the password of 32 bytes no. %3d", i)
			assert.Equal(t, password, string(little(p, password)))
		})
	}
	all.Wait()
}

// However the other process fails, the hash is right, the log says so once, and the process is gone.
func TestFailures(t *testing.T) {
	for _, how := range []string{"silent", "deaf", "senseless", "quit", "short"} {
		t.Run(how, func(t *testing.T) {
			p, log := poolOf(t, how)
			if how == "silent" || how == "deaf" {
				p.SetTimeout(time.Millisecond)
			}
			for range 4 {
				assert.Equal(t, want("a"), little(p, "a"))
			}
			id, _ := p.Process()
			assert.Zero(t, id)
			assert.Equal(t, 1, strings.Count(log.String(), "in the server"), log.String())
		})
	}
}

func TestNoProgram(t *testing.T) {
	log := new(testoutput.Buffer)
	p := hashproc.New(func() *exec.Cmd { return exec.CommandContext(t.Context(), "/absent") }, slog.New(slog.NewTextHandler(log, nil)))
	assert.Equal(t, want("a"), little(p, "a"))
	assert.Equal(t, want("b"), little(p, "b"))
	assert.Equal(t, 1, strings.Count(log.String(), "level=WARN"), log.String())
	assert.Contains(t, log.String(), "/absent")
	p.Close()
}

// A process that reads nothing, so that the pipe is full, delays no hash for longer than the timeout.
func TestFullPipe(t *testing.T) {
	p, _ := poolOf(t, "deaf")
	p.SetTimeout(20 * time.Millisecond)
	long := strings.Repeat("p", 4096)
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() { assert.Equal(t, want(long), little(p, long)) })
	}
	all.Wait()
}

// Close does not wait for a hash, and a caller that waits for one still gets it.
func TestCloseWhileOneWaits(t *testing.T) {
	p, _ := poolOf(t, "silent")
	done := make(chan []byte)
	go func() { done <- little(p, "a") }()
	require.Eventually(t, func() bool { id, _ := p.Process(); return id != 0 }, time.Minute, time.Millisecond)
	p.Close()
	assert.Equal(t, want("a"), <-done)
}

func TestAnotherAfterTheEnd(t *testing.T) {
	p, log := poolOf(t, "marked")
	require.Equal(t, marked, string(little(p, "a")))
	first, ended := p.Process()
	process, err := os.FindProcess(first)
	require.NoError(t, err)
	require.NoError(t, process.Kill())
	<-ended
	assert.Contains(t, log.String(), "has ended")
	assert.Equal(t, want("a"), little(p, "a"))
	assert.Equal(t, want("a"), little(p, "a"), "until another is started")
	p.Forget()
	assert.Equal(t, marked, string(little(p, "a")))
	second, _ := p.Process()
	assert.NotEqual(t, first, second)
}

func TestServeErrors(t *testing.T) {
	require.NoError(t, hashproc.ServePromptly(strings.NewReader(""), io.Discard))
	require.ErrorContains(t, hashproc.ServePromptly(strings.NewReader("not a job"), io.Discard), "no job")
}
