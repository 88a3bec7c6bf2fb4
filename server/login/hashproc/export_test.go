package hashproc

import "time"

// SetPatience is how long a hash of the least cost may take.
func (p *Pool) SetPatience(d time.Duration) { p.patience = d }

// Forget lets another process be started at once.
func (p *Pool) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried = time.Time{}
}

// Process returns the process's ID, 0 if there was none.
func (p *Pool) Process() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		return 0
	}
	return p.process.cmd.Process.Pid
}

// AwaitEnd returns when the process is gone.
func (p *Pool) AwaitEnd() {
	p.mu.Lock()
	there := p.process
	p.mu.Unlock()
	<-there.ended
}
