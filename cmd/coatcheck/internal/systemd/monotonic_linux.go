package systemd

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// monotonic is the line that says when a reload began: the manager must be able to tell it from one before.
func monotonic() string {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return ""
	}
	return "\nMONOTONIC_USEC=" + strconv.FormatInt(now.Nano()/1000, 10)
}
