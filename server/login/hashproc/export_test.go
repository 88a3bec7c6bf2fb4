package hashproc

import "time"

// SetPatience is how long a hash of the least cost may take.
func (p *Pool) SetPatience(d time.Duration) { p.patience = d }

// Forget lets another process be started at once.
func (p *Pool) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = time.Time{}
}

// Process returns the ID of the process that runs, 0 if there is none, and what is closed when it is gone.
func (p *Pool) Process() (id int, ended <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		return 0, nil
	}
	return p.process.cmd.Process.Pid, p.process.ended
}
