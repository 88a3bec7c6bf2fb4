package coatcheck

import "time"

// started is the time that the process's clock counts from.
var started = time.Now()

// moment is a point in time by two clocks that are read without a system call.
type moment struct {
	wall    time.Time     // goes on while the machine sleeps, and can be set
	process time.Duration // goes on while the process is stopped, and cannot be set
}

func thisMoment() moment {
	now := time.Now()
	return moment{wall: now.Round(0), process: now.Sub(started)}
}

// since returns how long ago the earlier moment was, by the clock that says more.
func (m moment) since(earlier moment) time.Duration {
	return max(m.process-earlier.process, m.wall.Sub(earlier.wall))
}
