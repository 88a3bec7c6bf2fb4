package process_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/bench/internal/process"
)

// TestMain lets the test binary be the program that RunSelf runs.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "say" {
		fmt.Println(os.Args[2])
		return
	}
	os.Exit(m.Run())
}

func shell(t *testing.T, script string, cpus ...int) *process.Process {
	t.Helper()
	p, err := process.Start(process.Command{
		Args: []string{"sh", "-c", script}, Env: []string{"WORD=hello"}, CPUs: cpus, Log: filepath.Join(t.TempDir(), "logs", "sh.log"),
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Stop() }) // most of them end with a status of their own
	return p
}

func TestStartAndStop(t *testing.T) {
	p := shell(t, `trap 'exit 0' TERM; echo "$WORD from $$"; while :; do sleep 0.01; done`)
	found, err := p.AwaitLog(t.Context(), regexp.MustCompile(`(\w+) from (\d+)`))
	require.NoError(t, err)
	assert.Equal(t, []string{fmt.Sprintf("hello from %d", p.PID()), "hello", fmt.Sprint(p.PID())}, found)
	require.NoError(t, p.Stop())
	require.NoError(t, p.Stop(), "a second Stop changes nothing")

	p = shell(t, `trap 'echo a mistake; exit 3' TERM; echo begun; while :; do sleep 0.01; done`)
	_, err = p.AwaitLog(t.Context(), regexp.MustCompile("begun"))
	require.NoError(t, err)
	err = p.Stop()
	require.ErrorContains(t, err, "exit status 3")
	assert.ErrorContains(t, err, "a mistake")
}

func TestAwaitEnds(t *testing.T) {
	p := shell(t, "echo no such option; exit 2")
	_, err := p.AwaitLog(t.Context(), regexp.MustCompile("listens"))
	require.ErrorContains(t, err, "has ended")
	require.ErrorContains(t, err, "no such option")

	address, err := process.FreeAddress()
	require.NoError(t, err)
	require.ErrorContains(t, p.AwaitListener(t.Context(), address), "has ended")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Error(t, shell(t, "exec sleep 60").AwaitListener(ctx, address))
}

func TestAwaitListener(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	require.NoError(t, err)
	defer listener.Close() //nolint:errcheck // a test's
	assert.NoError(t, shell(t, "exec sleep 60").AwaitListener(t.Context(), listener.Addr().String()))
}

func TestCPUs(t *testing.T) {
	cpus, err := process.ShareCPUs(1)
	require.NoError(t, err)
	p := shell(t, "grep Cpus_allowed_list /proc/self/status; exec sleep 60", cpus.Load...)
	found, err := p.AwaitLog(t.Context(), regexp.MustCompile(`Cpus_allowed_list:\s+(\S+)\n`))
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprint(cpus.Load[0]), found[1])
	_, err = process.ShareCPUs(1 << 20)
	assert.ErrorContains(t, err, "the server on 1048576 cores and the load on as many others need 2097152 cores, and this machine gives")
}

func TestRedis(t *testing.T) {
	address, err := process.FreeAddress()
	require.NoError(t, err)
	p, err := process.StartRedis(t.Context(), address, filepath.Join(t.TempDir(), "redis.log"), nil, "--save", "")
	require.NoError(t, err)
	reply, err := process.AskRedis(t.Context(), address, "DBSIZE")
	require.NoError(t, err)
	assert.Equal(t, ":0", reply)
	now, err := process.Resident(p.PID())
	require.NoError(t, err)
	peak, err := process.PeakResident(p.PID())
	require.NoError(t, err)
	assert.Positive(t, now)
	assert.GreaterOrEqual(t, peak, now)
	assert.NoError(t, p.Stop())
}

func TestUsage(t *testing.T) {
	machine, err := process.MachineCPU()
	require.NoError(t, err)
	before, err := process.CPUOf(os.Getpid())
	require.NoError(t, err)
	began, used := time.Now(), before
	for used.Sub(before).User < 50*time.Millisecond || used.Sub(before).Kernel < 50*time.Millisecond { // reading files uses both
		used, err = process.CPUOf(os.Getpid())
		require.NoError(t, err)
		require.Less(t, time.Since(began), 20*time.Second, "this process reads files all the time, and uses no processor time")
	}
	// The kernel's precise count of the same, read a little later.
	var count syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &count))
	assert.InDelta(t, time.Duration(count.Utime.Nano()), used.User, float64(200*time.Millisecond))
	assert.InDelta(t, time.Duration(count.Stime.Nano()), used.Kernel, float64(200*time.Millisecond))
	assert.Equal(t, used.User+used.Kernel, used.Total())
	assert.Equal(t, process.CPU{User: time.Second, Kernel: 2 * time.Second},
		process.CPU{User: 3 * time.Second, Kernel: 5 * time.Second}.Sub(process.CPU{User: 2 * time.Second, Kernel: 3 * time.Second}))
	later, err := process.MachineCPU()
	require.NoError(t, err)
	assert.GreaterOrEqual(t, later-machine, 40*time.Millisecond, "the machine's time includes this process'")
	_, err = process.CPUOf(1 << 30)
	assert.Error(t, err)
}

func TestRunSelf(t *testing.T) {
	var said struct{ Word string }
	require.NoError(t, process.RunSelf(t.Context(), nil, &said, "say", `{"Word":"hello"}`))
	assert.Equal(t, "hello", said.Word)
	assert.ErrorContains(t, process.RunSelf(t.Context(), nil, &said, "say", `hello`), "hello")
	_, _, err := process.Run(t.Context(), process.Command{Args: []string{"sh", "-c", "echo out; echo err >&2; exit 4"}})
	require.ErrorContains(t, err, "exit status 4")
	require.ErrorContains(t, err, "out\nerr")
	out, cpu, err := process.Run(t.Context(), process.Command{Args: []string{"sh", "-c", `echo "$WORD"`}, Env: []string{"WORD=hello"}})
	require.NoError(t, err)
	assert.Equal(t, "hello\n", string(out))
	assert.GreaterOrEqual(t, cpu.Total(), time.Duration(0))
}
