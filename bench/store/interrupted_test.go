package main

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test's program the command, and a child of it, where the environment says so.
func TestMain(m *testing.M) {
	if os.Getenv("BENCH_AS_COMMAND") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A command that is interrupted leaves no folder.
func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	entries := func() int {
		found, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-only", "none", "-n", "20000")
	cmd.Env = append(os.Environ(), "BENCH_AS_COMMAND=1", "TMPDIR="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(2 * time.Minute); entries() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("no folder is made")
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || entries() > 0 {
		t.Errorf("it ended with %v, and left %d folders", err, entries())
	}
}
