// Package hashproc computes argon2id in a process of its own, which the kernel runs when nothing else wants the core. A
// hash of 20 ms and the 19 MiB that it leaves to the garbage collector then delay nobody who is logged in already
// (docs/decisions/0029).
package hashproc

import (
	"bytes"
	"log/slog"
	"os/exec"
	"sync"
	"time"
)

// Pool has hashes computed by another process, which it starts at the first one. Safe for concurrent use; how many are
// computed at once is the caller's to bound.
type Pool struct {
	command  func() *exec.Cmd
	log      *slog.Logger  // nil: slog.Default()
	patience time.Duration // with a hash of the least cost
	longest  time.Duration // the patience with the costliest hash
	pause    time.Duration // after a process was given up, before another is started

	mu      sync.Mutex
	process *process  // guarded by mu; nil: none
	next    time.Time // guarded by mu: before that, none is started
	closed  bool      // guarded by mu
}

const (
	// patience is a dozen times what a hash takes.
	patience = 250 * time.Millisecond
	// longest is the patience with the costliest hash.
	longest = 5 * time.Second
	// pause is how long hashes are computed here when the other process is gone, or too slow, because requests leave it
	// nothing: one that is killed and started for each login would make that worse.
	pause = 10 * time.Second
)

// New returns a pool whose process the command makes: it has to call Serve with its standard input and output. A nil log is
// slog.Default().
func New(command func() *exec.Cmd, log *slog.Logger) *Pool {
	return &Pool{command: command, log: log, patience: patience, longest: longest, pause: pause}
}

// IDKey is argon2.IDKey, computed by the other process if that can be had and answers in time, and by this one if not.
func (p *Pool) IDKey(password, salt []byte, passes, memory uint32, threads uint8, keyLen uint32) []byte {
	j := &job{Password: bytes.Clone(password), Salt: bytes.Clone(salt), Passes: passes, Memory: memory, Threads: threads, KeyLen: keyLen}
	if there := p.running(); there != nil {
		if tag := there.do(j, min(p.patience*j.size(), p.longest)); tag != nil {
			return tag
		}
		p.discard(there)
	}
	return j.compute()
}

// running returns the process, a new one if there is none any more, or nil.
func (p *Pool) running() *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process != nil || p.closed || time.Now().Before(p.next) {
		return p.process
	}
	p.next = time.Now().Add(p.pause)
	there, err := start(p.command(), p.logger())
	if err != nil {
		p.logger().Warn("passwords are hashed in the server, as the process for it does not start", "error", err)
		return nil
	}
	p.process = there
	return there
}

// discard kills a process that has not answered, so that it does not hold memory for a hash that is computed here.
func (p *Pool) discard(there *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process != there {
		return // others have waited for it too, or it was closed
	}
	p.process = nil
	p.next = time.Now().Add(p.pause)
	p.logger().Warn("passwords are hashed in the server for a while, as the process for it is gone or too slow")
	there.kill()
}

func (p *Pool) logger() *slog.Logger {
	if p.log == nil {
		return slog.Default()
	}
	return p.log
}

// Close ends the process. What it has not computed yet, and what comes later, is computed here. Close does not wait until
// the process is gone, which can take a while on a machine that is busy; it has nothing that could be lost.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.process != nil {
		p.process.kill()
		p.process = nil
	}
}
