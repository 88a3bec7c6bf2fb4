package process

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Run runs a program to its end and returns what it wrote to its standard output, and the processor time that it used. The
// command's Log is not used.
func Run(ctx context.Context, c Command) ([]byte, CPU, error) {
	args := pinned(c.CPUs, c.Args)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.SysProcAttr = sameGroup()
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		return nil, CPU{}, fmt.Errorf("%s: %w: %s", filepath.Base(c.Args[0]), err, bytes.TrimSpace(append(out, errors.Bytes()...)))
	}
	return out, CPU{cmd.ProcessState.UserTime(), cmd.ProcessState.SystemTime()}, nil
}

// RunSelf runs this program once more on these CPUs, with other arguments, and decodes the JSON that it writes to its standard
// output. What is measured in a process of its own shares neither heap nor scheduler with what this process does.
func RunSelf(ctx context.Context, cpus []int, into any, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, _, err := Run(ctx, Command{Args: append([]string{self}, args...), CPUs: cpus})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("%s %s: %w: %.200s", filepath.Base(self), args[0], err, out)
	}
	return nil
}
