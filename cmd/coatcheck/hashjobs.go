package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/coatcheck/coatcheck/server/login/hashproc"
)

// hashJobs is the command that only the server runs: it hashes passwords until the server is gone.
const hashJobs = "hash-jobs"

// newHashPool leaves hashing to a process of this very program, which knows no secret but the password that it hashes.
func newHashPool() *hashproc.Pool {
	return hashproc.New(func() *exec.Cmd {
		cmd := exec.CommandContext(context.Background(), self(), hashJobs)
		cmd.Env = []string{} // not this process's, which may hold keys
		cmd.Stderr = os.Stderr
		return cmd
	}, nil)
}

// self is the path of the program that runs, also when its file has been replaced since, where that can be had. If there is
// none it is empty, and no program starts.
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

// runHashJobs ends when the server does. Signals are main's, which drops them: a Ctrl-C reaches both processes, and the
// server may have passwords to check until it is drained.
func runHashJobs(stdin io.Reader, stdout, stderr io.Writer) int {
	if err := hashproc.Serve(stdin, stdout); err != nil {
		say(stderr, fmt.Sprintf("coatcheck: %s: %v\n", hashJobs, err))
		return exitFailed
	}
	return exitOK
}
