package coatcheck

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot is a clock that also counts while the process is stopped and the machine sleeps, and that cannot be set.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return time.Since(started)
	}
	return time.Duration(t.Nano())
}
