package hashproc

import (
	"encoding/gob"
	"errors"
	"io"
	"log/slog"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"
)

// process is a hashing process that runs or has ended.
type process struct {
	cmd    *exec.Cmd
	log    *slog.Logger
	jobs   chan *job
	killed atomic.Bool
	ended  chan struct{} // closed when the process is gone

	mu      sync.Mutex
	waiting map[uint64]chan<- []byte // guarded by mu
	serial  uint64                   // guarded by mu
}

func start(cmd *exec.Cmd, log *slog.Logger) (*process, error) {
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, stdin.Close())
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, log: log, jobs: make(chan *job), ended: make(chan struct{}), waiting: make(map[uint64]chan<- []byte)}
	go p.write(stdin)
	go p.read(stdout)
	return p, nil
}

// write sends jobs. A process that does not read blocks it, and callers with a job give up in do.
func (p *process) write(stdin io.Writer) {
	out := gob.NewEncoder(stdin)
	for {
		select {
		case j := <-p.jobs:
			if out.Encode(j) != nil {
				return // the process is ending; read finds out why
			}
		case <-p.ended:
			return
		}
	}
}

// read hands out the process's answers, until it ends or sends something invalid.
func (p *process) read(stdout io.Reader) {
	defer close(p.ended)
	results := gob.NewDecoder(stdout)
	var err error
	for {
		var r result
		if err = results.Decode(&r); err != nil {
			break
		}
		if r.Trouble != "" {
			p.log.Warn("the process that hashes passwords competes with requests", "error", r.Trouble)
		}
		p.answer(&r)
	}
	told := p.killed.Load()
	p.kill() // most often the process has ended
	if ended := p.cmd.Wait(); !told {
		p.log.Warn("the process that hashes passwords has ended", "error", errors.Join(err, ended))
	}
}

func (p *process) answer(r *result) {
	p.mu.Lock()
	answer := p.waiting[r.ID]
	delete(p.waiting, r.ID)
	p.mu.Unlock()
	if answer != nil {
		answer <- r.Tag
	}
}

// do returns the job's tag, or nil if the process is gone, too slow, or wrong.
func (p *process) do(j *job, timeout time.Duration) []byte {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	answer := p.expect(j)
	select {
	case p.jobs <- j:
	case <-p.ended:
		return nil
	case <-timer.C:
		return nil
	}
	select {
	case tag := <-answer:
		if len(tag) == int(j.KeyLen) { // the answer of another program would lock users out
			return tag
		}
	case <-p.ended:
	case <-timer.C:
	}
	return nil
}

// expect numbers the job and returns the channel on which its tag arrives.
func (p *process) expect(j *job) <-chan []byte {
	answer := make(chan []byte, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serial++
	j.ID = p.serial
	p.waiting[j.ID] = answer
	return answer
}

func (p *process) kill() {
	p.killed.Store(true)
	_ = p.cmd.Process.Kill() // Kill fails if the process is gone, which is as good
}
