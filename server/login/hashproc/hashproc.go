// Package hashproc computes argon2id in a process of its own, which the kernel runs when nothing else needs the core. A
// hash of 20 ms and the 19 MiB that it leaves to the garbage collector then do not delay the requests of logged-in users
// (docs/decisions/0029).
package hashproc

import (
	"bytes"
	"log/slog"
	"os/exec"
	"sync"
	"time"
)

// Pool computes hashes in another process, which it starts for the first hash. It is safe for concurrent use; the caller
// bounds how many hashes are computed at once.
type Pool struct {
	command func() *exec.Cmd
	log     *slog.Logger  // nil: slog.Default()
	timeout time.Duration // for a hash of the least cost
	longest time.Duration // the timeout for the costliest hash
	pause   time.Duration // after a process was given up, before another one is started

	mu      sync.Mutex
	process *process  // guarded by mu; nil: none
	next    time.Time // guarded by mu: before that time no process is started
	closed  bool      // guarded by mu
}

const (
	// timeout is a dozen times what a hash takes.
	timeout = 250 * time.Millisecond
	// longest is the timeout for the costliest hash.
	longest = 5 * time.Second
	// pause is how long hashes are computed in this process when the other one is gone, or too slow because requests leave
	// it no CPU time: killing and starting a process for each login would make that worse.
	pause = 10 * time.Second
)

// New returns a pool whose process is started by the command, which has to call Serve with its standard input and output. A
// nil log is slog.Default().
func New(command func() *exec.Cmd, log *slog.Logger) *Pool {
	return &Pool{command: command, log: log, timeout: timeout, longest: longest, pause: pause}
}

// IDKey is argon2.IDKey, computed by the other process if it runs and answers in time, and by this one otherwise.
func (p *Pool) IDKey(password, salt []byte, passes, memory uint32, threads uint8, keyLen uint32) []byte {
	j := &job{Password: bytes.Clone(password), Salt: bytes.Clone(salt), Passes: passes, Memory: memory, Threads: threads, KeyLen: keyLen}
	if there := p.running(); there != nil {
		if tag := there.do(j, min(p.timeout*j.size(), p.longest)); tag != nil {
			return tag
		}
		p.discard(there)
	}
	return j.compute()
}

// running returns the process, started anew if there is none any more, or nil.
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

// discard kills a process that has not answered, so that it holds no memory for a hash that this process computes instead.
func (p *Pool) discard(there *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process != there {
		return // another caller has discarded it, or the pool was closed
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

// Close ends the process. Hashes that it has not computed yet, and later ones, are computed in this process. Close does not
// wait until the other process is gone, which can take a while on a busy machine; that process has no data to lose.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.process != nil {
		p.process.kill()
		p.process = nil
	}
}
