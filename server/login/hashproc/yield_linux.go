package hashproc

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// yield has the kernel run all threads of this process, and those that they start, when nothing else wants the core:
// SCHED_IDLE, whose threads give way at once to any that wakes up. At nice 19 they need not before their slice is over.
func yield() error {
	lowered := make(map[int]bool)
	for more := true; more; { // until none is found that one which was not lowered yet has started meanwhile
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		more = false
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				return err
			}
			if lowered[id] {
				continue
			}
			if err := lower(id); err != nil {
				return err
			}
			lowered[id], more = true, true
		}
	}
	return nil
}

// lower uses the call whose policy a seccomp filter can see: systemd's RestrictRealtime allows this one.
func lower(thread int) error {
	var param struct{ priority int32 }
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(thread), unix.SCHED_IDLE, uintptr(unsafe.Pointer(&param)))
	if errno != 0 && !errors.Is(errno, unix.ESRCH) { // a thread that has ended competes with nobody
		return fmt.Errorf("sched_setscheduler: %w", errno)
	}
	return nil
}
