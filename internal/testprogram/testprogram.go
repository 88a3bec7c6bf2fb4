// Package testprogram writes the programs that tests run, and builds cmd/coatcheck for those that run it as a process: once for
// all packages if make test names a folder for that in COATCHECK_TEST_PROGRAMS, and once for a package whose tests are run
// alone. The flags are the same everywhere, so that nothing is compiled a second time.
package testprogram

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// Version is the version that the built programs report.
const Version = "v1.2.3-test"

// Shipped returns the path of the program as it is shipped. It is built into dir unless a folder is named for all packages.
func Shipped(dir string) (string, error) {
	return built(dir, "coatcheck", []string{"CGO_ENABLED=0"}, "-trimpath")
}

// Raced returns the path of the program with the race detector. It is built into dir unless a folder is named for all
// packages.
func Raced(dir string) (string, error) {
	return built(dir, "coatcheck-race", []string{"CGO_ENABLED=1"}, "-race")
}

func built(dir, name string, environ []string, flags ...string) (path string, err error) {
	if shared := os.Getenv("COATCHECK_TEST_PROGRAMS"); shared != "" {
		dir = shared
	}
	path = filepath.Join(dir, name)
	// Packages are tested in parallel; the first one builds, and the others wait for it.
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Close()) }() // which releases the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("flock: %w", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	_, file, _, _ := runtime.Caller(0)
	args := append([]string{"build", "-ldflags", "-X main.version=" + Version, "-o", path}, flags...)
	cmd := exec.CommandContext(context.Background(), "go", append(args, "./cmd/coatcheck")...)
	cmd.Dir = filepath.Join(filepath.Dir(file), "../..") // the module's root, also for tests of the modules beside it
	cmd.Env = append(os.Environ(), environ...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// Write writes a program, or a script, that can be run at once. A process that another test starts meanwhile would hold the
// descriptor until it execs, and running the program would fail with ETXTBSY.
func Write(path string, content []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, content, 0o755) //nolint:gosec // others must be able to run it
}
