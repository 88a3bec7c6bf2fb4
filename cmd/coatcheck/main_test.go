package main

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/daemon"
	"github.com/coatcheck/coatcheck/internal/testprogram"
)

var scratch string // for the built programs; removed when the tests are over

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == hashJobs { // a server in this process would start it as the program that hashes
		os.Exit(run(os.Args[1:], nil, daemon.Signals{}, os.Stdin, os.Stdout, os.Stderr))
	}
	var err error
	if scratch, err = os.MkdirTemp("", "coatcheck-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// The goroutine of fasthttp's worker pool that ends idle workers notices the end only when its 10 s sleep is over.
	sleeper := goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2")
	// rueidis has one that sleeps for up to a second after its client was closed.
	refresh := goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1")
	goleak.VerifyTestMain(m, sleeper, refresh, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(scratch); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}))
}

// program returns the path of the built program: with the race detector where the tests have it, else as it is shipped.
func program(t *testing.T) string {
	t.Helper()
	path, err := built()
	require.NoError(t, err)
	return path
}

// shippedProgram returns the path of the program as it is shipped, for what the race detector would spoil: it needs several times the
// memory, and a dynamic linker.
func shippedProgram(t testing.TB) string {
	t.Helper()
	path, err := shipped()
	require.NoError(t, err)
	return path
}

var (
	built = sync.OnceValues(func() (string, error) {
		if raceDetector {
			return testprogram.Raced(scratch)
		}
		return shipped()
	})
	shipped = sync.OnceValues(func() (string, error) { return testprogram.Shipped(scratch) })
)
