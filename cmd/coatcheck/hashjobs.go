package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"

	"github.com/coatcheck/coatcheck/server/login/hashproc"
)

// hashJobs is the command that only the server runs: it hashes passwords until the server is gone.
const hashJobs = "hash-jobs"

// newHashPool leaves hashing to a process of this very program, which knows no secret but the password that it hashes.
func newHashPool() *hashproc.Pool {
	return hashproc.New(func() *exec.Cmd {
		cmd := exec.CommandContext(context.Background(), self(), hashJobs)
		cmd.Env = []string{} // not this process's, which may hold keys
		return cmd
	}, max(1, runtime.GOMAXPROCS(0)-1), nil)
}

// self is the path of the program that runs, also when its file has been replaced since, where that can be had.
func self() string {
	const running = "/proc/self/exe"
	if _, err := os.Stat(running); err == nil {
		return running
	}
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

func runHashJobs(stdin io.Reader, stdout, stderr io.Writer) int {
	if err := hashproc.Serve(stdin, stdout); err != nil {
		say(stderr, fmt.Sprintf("coatcheck: %s: %v\n", hashJobs, err))
		return exitFailed
	}
	return exitOK
}
