package daemon

import (
	"os"
	"os/signal"
	"syscall"
)

// Signals are the signals of the process that the server acts on. Package signal drops a signal whose channel is full, so
// each kind has a channel of its own, with room for every signal that can make a difference: none displaces another.
type Signals struct {
	// Stop has room for two: the first INT or TERM drains the server, one that comes a second later or more ends it at once.
	Stop chan os.Signal
	// Reload has room for one HUP: several that wait ask for the same re-read.
	Reload chan os.Signal
}

// NewSignals returns signals that are not connected to a process.
func NewSignals() Signals {
	return Signals{Stop: make(chan os.Signal, 2), Reload: make(chan os.Signal, 1)}
}

// Notify returns the signals of this process. It is to be called once, before anything else: a signal that comes earlier ends
// the process. From then on the process also survives a log whose reader goes away, because that must not end the sessions.
func Notify() Signals {
	s := NewSignals()
	signal.Notify(s.Stop, os.Interrupt, syscall.SIGTERM)
	signal.Notify(s.Reload, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE)
	return s
}
