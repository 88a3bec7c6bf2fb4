package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long a command may take, on a machine that is slow and builds the program.
const patience = 3 * time.Minute

var placeholders = []struct {
	of *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`"session_id":"[A-Za-z0-9_-]{22}"`), `"session_id":"ID"`},
	{regexp.MustCompile(`(?m)^retry: \d+$`), `retry: MS`},
}

// plain puts placeholders in the place of what differs from run to run.
func plain(text string) string {
	for _, p := range placeholders {
		text = p.of.ReplaceAllString(text, p.by)
	}
	return strings.TrimRight(text, "\n")
}

// terminal runs the commands of one page.
type terminal struct {
	dir     string // where they are typed
	env     []string
	running []*process // ended with the page
}

// runPage runs the commands of a page in a folder of their own, beside the servers that the page takes for granted.
func runPage(clone, page string, commands []command) (ran int, mistakes []string) {
	scratch, err := os.MkdirTemp("", "docs-check-")
	if err != nil {
		return 0, []string{err.Error()}
	}
	defer os.RemoveAll(scratch) //nolint:errcheck // a folder of files that nobody needs
	t := &terminal{dir: scratch, env: append(os.Environ(), "PATH="+filepath.Join(clone, "bin")+":"+os.Getenv("PATH"), "CLONE="+clone, "SCRATCH="+scratch)}
	if inClone[page] {
		t.dir = clone
	}
	defer t.end()
	for _, s := range servers[page] {
		if err := t.serve(s.command, s.url); err != nil {
			return 0, []string{fmt.Sprintf("%s: the server of the page: %v", page, err)}
		}
	}
	for _, c := range commands {
		r := ruleFor(c)
		if r.unrun != "" {
			continue
		}
		ran++
		if err := t.try(c, r); err != nil {
			mistakes = append(mistakes, fmt.Sprintf("%s\n\t%s", c, strings.ReplaceAll(err.Error(), "\n", "\n\t")))
		}
	}
	return ran, mistakes
}

// try runs one command, with what its rule wants before, beside and after it.
func (t *terminal) try(c command, r rule) error {
	if r.before != "" {
		if out, err := t.run(r.before, ""); err != nil {
			return fmt.Errorf("before it: %w\n%s", err, out)
		}
	}
	line := strings.NewReplacer(r.replace...).Replace(c.line)
	if r.serves != "" {
		if err := t.serve(line, r.serves); err != nil {
			return err
		}
	} else {
		out, err := t.follow(line, r)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		if want, got := plain(c.prints), plain(out); c.shown && want != got {
			return fmt.Errorf("the page says\n%s\nand it prints\n%s", want, got)
		}
	}
	if r.after != "" {
		if out, err := t.run(r.after, ""); err != nil {
			return fmt.Errorf("after it, %s: %w\n%s", r.after, err, out)
		}
	}
	return nil
}

// run runs lines of bash to their end.
func (t *terminal) run(line, input string) (output string, err error) {
	return t.follow(line, rule{input: input})
}

// follow is run with what the rule wants to happen once something was printed.
func (t *terminal) follow(line string, r rule) (output string, err error) {
	p, err := t.start(line, r.input)
	if err != nil {
		return "", err
	}
	defer p.kill()
	deadline := time.After(patience)
	if r.once != "" {
		for !strings.Contains(p.output.String(), r.once) {
			select {
			case <-p.ended:
				return p.output.String(), errors.New("it ended early")
			case <-deadline:
				return p.output.String(), fmt.Errorf("it did not print %q", r.once)
			case <-time.After(10 * time.Millisecond):
			}
		}
		if out, err := t.run(r.then, ""); err != nil {
			return out, fmt.Errorf("beside it: %w", err)
		}
	}
	select {
	case <-p.ended:
		return p.output.String(), p.err
	case <-deadline:
		return p.output.String(), errors.New("it does not end")
	}
}

// serve starts a command that goes on until the page ends, and waits until a server answers.
func (t *terminal) serve(line, url string) error {
	p, err := t.start(line, "")
	if err != nil {
		return err
	}
	t.running = append(t.running, p)
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a certificate of the page's own
	}}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		select {
		case <-p.ended:
			return fmt.Errorf("the server ended: %w\n%s", p.err, p.output.String())
		default:
		}
		if resp, err := client.Get(url); err == nil { //nolint:noctx // has a timeout
			return resp.Body.Close()
		}
	}
	return fmt.Errorf("nothing answers at %s\n%s", url, p.output.String())
}

// end stops what goes on, the last one first.
func (t *terminal) end() {
	for len(t.running) > 0 {
		p := t.running[len(t.running)-1]
		t.running = t.running[:len(t.running)-1]
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(time.Minute):
		}
		p.kill()
	}
}

// process is a command that was started.
type process struct {
	cmd    *exec.Cmd
	output *printed
	ended  chan struct{} // closed when it has ended
	err    error         // set before ended is closed
}

// start runs lines of bash with the variables that env in the folder sets, in a process group of its own.
func (t *terminal) start(line, input string) (*process, error) {
	const before = "set -euo pipefail; [ ! -f \"$SCRATCH/env\" ] || . \"$SCRATCH/env\"\n"
	p := &process{cmd: exec.CommandContext(context.Background(), "bash", "-c", before+line), output: new(printed), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdin = t.dir, t.env, strings.NewReader(input)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
}

// printed is what a process printed so far.
type printed struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}
