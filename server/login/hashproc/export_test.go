package hashproc

import (
	"encoding/gob"
	"io"
	"time"
)

// SetTimeout is how long a hash may take, whatever it costs.
func (p *Pool) SetTimeout(d time.Duration) { p.timeout, p.longest = d, d }

// SetPause is how long no other process is started after one was given up.
func (p *Pool) SetPause(d time.Duration) { p.pause = d }

// Forget lets another process be started at once.
func (p *Pool) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = time.Time{}
}

// Process returns the ID of the process that runs, 0 if there is none, and a channel that is closed when the process has ended.
func (p *Pool) Process() (id int, ended <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		return 0, nil
	}
	return p.process.cmd.Process.Pid, p.process.ended
}

// ServePromptly is Serve without yielding the core to other programs: on a busy machine a process that yields may get no processor
// time for as long as a test runs.
func ServePromptly(in io.Reader, out io.Writer) error {
	return (&results{out: gob.NewEncoder(out)}).serve(in)
}
