package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/coatcheck/coatcheck/server/login/hashproc"
)

// hashJobs is the command that only the server runs: its process computes hashes of passwords until the server ends.
const hashJobs = "hash-jobs"

// newHashPool returns a pool that hashes in a process of this program, which knows no secret but the passwords that it
// hashes. The process starts with the first hash.
func newHashPool() *hashproc.Pool {
	return hashproc.New(func() *exec.Cmd {
		cmd := exec.CommandContext(context.Background(), self(), hashJobs)
		cmd.Env = []string{} // not this process's environment, which may hold keys
		cmd.Stderr = os.Stderr
		return cmd
	}, nil)
}

// self returns the path of the running program: on Linux a path that stays right when the file has been replaced. Where no
// path is known it is empty, and no process starts.
func self() string {
	const running = "/proc/self/exe"
	if _, err := os.Stat(running); err == nil {
		return running
	}
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	return path
}

// runHashJobs ends when the server ends. It ignores the signals that main receives (takesSignals): a Ctrl-C reaches both
// processes, and the server may have passwords to check until it is drained.
func runHashJobs(stdin io.Reader, stdout, stderr io.Writer) int {
	if err := hashproc.Serve(stdin, stdout); err != nil {
		say(stderr, fmt.Sprintf("coatcheck: %s: %v\n", hashJobs, err))
		return exitFailed
	}
	return exitOK
}
