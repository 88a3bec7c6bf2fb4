package hashproc_test

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/crypto/argon2"

	"github.com/coatcheck/coatcheck/server/login/hashproc"
)

// The test program is the other process too: its only argument says how that behaves.
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
	case "marked": // its tags can be told from those computed here
		jobs, results := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
		for {
			var j struct{ ID uint64 }
			if err := jobs.Decode(&j); err != nil {
				return err
			}
			r := struct {
				ID  uint64
				Tag []byte
			}{j.ID, []byte(marked)}
			if err := results.Encode(&r); err != nil {
				return err
			}
		}
	case "silent":
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	case "senseless":
		_, err := os.Stdout.WriteString("this is no gob\n")
		return err
	case "quit":
		return nil
	default:
		return fmt.Errorf("%q?", how)
	}
}

const marked = "computed over there"

var salt = []byte("a salt of 16 byt")

// little is a hash as cheap as argon2id goes.
func little(p *hashproc.Pool, password string) []byte {
	return p.IDKey([]byte(password), salt, 2, 16, 1, 32)
}

func want(password string) []byte { return argon2.IDKey([]byte(password), salt, 2, 16, 1, 32) }

// poolOf returns a pool whose process behaves so, and its log.
func poolOf(t *testing.T, how string, most int) (*hashproc.Pool, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	p := hashproc.New(func() *exec.Cmd { return exec.CommandContext(t.Context(), os.Args[0], how) }, most, slog.New(slog.NewTextHandler(log, nil)))
	p.SetPatience(time.Minute)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p, log
}

func TestIDKey(t *testing.T) {
	p, log := poolOf(t, "serve", 4)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			password := fmt.Sprint("password ", i)
			assert.Equal(t, want(password), little(p, password))
		})
	}
	all.Wait()
	assert.Equal(t, argon2.IDKey([]byte("x"), salt, 3, 64, 2, 16), p.IDKey([]byte("x"), salt, 3, 64, 2, 16), "other parameters")
	assert.Empty(t, log.String())
}

func TestComputedOverThere(t *testing.T) {
	p, _ := poolOf(t, "marked", 1)
	for range 3 {
		assert.Equal(t, marked, string(little(p, "a")))
	}
	require.NoError(t, p.Close())
	require.NoError(t, p.Close(), "twice")
	assert.Equal(t, want("a"), little(p, "a"), "after Close")
}

// However the other process fails, the hash is right, and none is lost.
func TestFailures(t *testing.T) {
	for _, how := range []string{"silent", "senseless", "quit"} {
		t.Run(how, func(t *testing.T) {
			p, _ := poolOf(t, how, 2)
			if how == "silent" {
				p.SetPatience(time.Millisecond)
			}
			for range 4 {
				assert.Equal(t, want("a"), little(p, "a"))
			}
		})
	}
}

func TestNoProgram(t *testing.T) {
	var log bytes.Buffer
	p := hashproc.New(func() *exec.Cmd { return exec.CommandContext(t.Context(), "/absent") }, 1, slog.New(slog.NewTextHandler(&log, nil)))
	assert.Equal(t, want("a"), little(p, "a"))
	assert.Equal(t, want("b"), little(p, "b"))
	assert.Equal(t, 1, strings.Count(log.String(), "level=WARN"), log.String())
	assert.Contains(t, log.String(), "/absent")
	require.NoError(t, p.Close())
}

// A job that was given up still counts as one that is computed there, so that memory stays bounded.
func TestFull(t *testing.T) {
	p, _ := poolOf(t, "silent", 1)
	p.SetPatience(time.Millisecond)
	assert.Equal(t, want("a"), little(p, "a"))
	p.SetPatience(time.Hour)
	assert.Equal(t, want("b"), little(p, "b"), "at once, and not in an hour")
}

func TestAnotherAfterTheEnd(t *testing.T) {
	p, log := poolOf(t, "marked", 1)
	require.Equal(t, marked, string(little(p, "a")))
	first := p.Process()
	process, err := os.FindProcess(first)
	require.NoError(t, err)
	require.NoError(t, process.Kill())
	p.AwaitEnd()
	assert.Equal(t, want("a"), little(p, "a"), "until another is started")
	p.Forget()
	assert.Equal(t, marked, string(little(p, "a")))
	assert.NotEqual(t, first, p.Process())
	assert.Contains(t, log.String(), "has ended")
}

func TestServeErrors(t *testing.T) {
	serve := func(input string) ([]byte, error) { // in its own process, because it lowers that
		cmd := exec.CommandContext(t.Context(), os.Args[0], "serve")
		cmd.Stdin = strings.NewReader(input)
		return cmd.CombinedOutput()
	}
	out, err := serve("")
	require.NoError(t, err, string(out))
	out, err = serve("not a job")
	require.Error(t, err)
	require.Contains(t, string(out), "no job")
}
