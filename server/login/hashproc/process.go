package hashproc

import (
	"encoding/gob"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"
)

// process is one that runs, or has.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it is gone
	slots chan struct{} // one for each job that it has not answered
	log   *slog.Logger

	mu      sync.Mutex
	jobs    *gob.Encoder             // guarded by mu
	waiting map[uint64]chan<- []byte // guarded by mu
	serial  uint64                   // guarded by mu
}

func start(cmd *exec.Cmd, most int, log *slog.Logger) (*process, error) {
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
	p := &process{
		cmd: cmd, ended: make(chan struct{}), slots: make(chan struct{}, most), log: log,
		jobs: gob.NewEncoder(stdin), waiting: make(map[uint64]chan<- []byte),
	}
	go p.read(stdout)
	return p, nil
}

// read hands out what the process answers, until it ends or makes no sense.
func (p *process) read(stdout io.Reader) {
	defer close(p.ended)
	results := gob.NewDecoder(stdout)
	for {
		var r result
		if results.Decode(&r) != nil {
			break
		}
		if r.Trouble != "" {
			p.log.Warn("the process that hashes passwords competes with requests", "error", r.Trouble)
		}
		p.answer(&r)
	}
	_ = p.cmd.Process.Kill() // most often it has ended
	_ = p.cmd.Wait()         // how it ended is of no use: another one is started
}

func (p *process) answer(r *result) {
	p.mu.Lock()
	answer := p.waiting[r.ID]
	delete(p.waiting, r.ID)
	p.mu.Unlock()
	if answer != nil {
		<-p.slots
		answer <- r.Tag
	}
}

func (p *process) gone() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// do returns the job's tag, nil if the process is full, gone, or too slow. A job that was too slow keeps its slot until it is
// done, so that there are never more than are allowed.
func (p *process) do(j *job, patience time.Duration) []byte {
	select {
	case p.slots <- struct{}{}:
	default:
		return nil
	}
	answer := make(chan []byte, 1)
	if p.send(j, answer) != nil {
		return nil // it is gone, and its slots with it
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case tag := <-answer:
		return tag
	case <-p.ended:
	case <-timer.C:
	}
	return nil
}

func (p *process) send(j *job, answer chan<- []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serial++
	j.ID = p.serial
	p.waiting[j.ID] = answer
	return p.jobs.Encode(j)
}

// close ends the process and waits until it has. It keeps nothing that could be lost.
func (p *process) close() error {
	err := p.cmd.Process.Kill()
	<-p.ended
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
