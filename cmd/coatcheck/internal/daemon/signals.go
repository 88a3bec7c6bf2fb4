package daemon

import (
	"os"
	"os/signal"
	"syscall"
)

// Signals are those that the process got and that the server acts on. Package signal drops a signal whose channel is full, so each
// kind has a channel of its own, with room for all that can make a difference: none displaces another.
type Signals struct {
	// Stop has room for two: the first INT or TERM drains the server, the second ends it at once.
	Stop chan os.Signal
	// Reload has room for one HUP: several that wait ask for the same re-read.
	Reload chan os.Signal
}

// NewSignals returns signals that nobody sends yet.
func NewSignals() Signals {
	return Signals{Stop: make(chan os.Signal, 2), Reload: make(chan os.Signal, 1)}
}

// Notify returns the signals of this process. It is to be called once, before anything else: a signal that comes earlier ends the
// process. A reader of the log that goes away ends it no more, because that must not take the sessions along.
func Notify() Signals {
	s := NewSignals()
	signal.Notify(s.Stop, os.Interrupt, syscall.SIGTERM)
	signal.Notify(s.Reload, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE)
	return s
}
