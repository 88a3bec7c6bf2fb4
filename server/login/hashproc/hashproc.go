// Package hashproc computes argon2id in a process of its own, which the kernel runs when nothing else wants the core. A
// hash of 20 ms and the 19 MiB that it leaves to the garbage collector then delay nobody who is logged in already
// (docs/decisions/0029).
package hashproc

import (
	"log/slog"
	"os/exec"
	"sync"
	"time"
)

// Pool has hashes computed by another process, which it starts at the first one. Safe for concurrent use.
type Pool struct {
	command func() *exec.Cmd
	most    int
	log     *slog.Logger // nil: slog.Default()
	// patience is how long a hash of the least cost of a users file may take there: several times what it takes on a core of
	// its own. Then it is computed here, so that logins go on, slower, while requests leave the other process nothing.
	patience time.Duration

	mu      sync.Mutex
	process *process  // guarded by mu; nil: none
	tried   time.Time // guarded by mu: when the last one was started
	closed  bool      // guarded by mu
}

const (
	// patience is a dozen times what a hash takes.
	patience = 250 * time.Millisecond
	// again is how long after the start of one process another is started if that one is gone.
	again = 10 * time.Second
	// mostSent is how many jobs, with passwords of 4 KiB, a pipe holds (64 KiB), so that sending one never waits.
	mostSent = 15
)

// New returns a pool whose process the command makes: it has to call Serve with its standard input and output. So many
// hashes are computed there at once, 15 at most; those beyond are computed in this process. A nil log is slog.Default().
func New(command func() *exec.Cmd, hashes int, log *slog.Logger) *Pool {
	return &Pool{command: command, most: min(hashes, mostSent), log: log, patience: patience}
}

// IDKey is argon2.IDKey, computed by the other process if that can be had and answers in time, and by this one if not.
func (p *Pool) IDKey(password, salt []byte, passes, memory uint32, threads uint8, keyLen uint32) []byte {
	j := &job{Password: password, Salt: salt, Passes: passes, Memory: memory, Threads: threads, KeyLen: keyLen}
	if there := p.running(); there != nil {
		if tag := there.do(j, p.patience*j.size()); tag != nil {
			return tag
		}
	}
	return j.compute()
}

// running returns the process, a new one if there is none any more, or nil.
func (p *Pool) running() *process {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process != nil && !p.process.gone() {
		return p.process
	}
	if p.closed || time.Since(p.tried) < again {
		return nil
	}
	if p.process != nil {
		p.logger().Warn("the process that hashes passwords has ended: another is started")
	}
	p.tried = time.Now()
	var err error
	if p.process, err = start(p.command(), p.most, p.logger()); err != nil {
		p.logger().Warn("passwords are hashed in this process, as there is no other for it", "error", err)
	}
	return p.process
}

func (p *Pool) logger() *slog.Logger {
	if p.log == nil {
		return slog.Default()
	}
	return p.log
}

// Close ends the process. What it has not computed yet, and what comes later, is computed here.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.process == nil {
		return nil
	}
	return p.process.close()
}
