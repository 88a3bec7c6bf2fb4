package hashproc

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// yield makes the kernel run all threads of this process, and those that they start, only when nothing else needs the core.
// It uses SCHED_IDLE, whose threads yield at once to any thread that wakes up; at nice 19 they would keep the core until
// their time slice is over.
func yield() error {
	lowered := make(map[int]bool)
	for more := true; more; { // until a pass finds no new thread: one that was not lowered yet may have started some
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

// lower gives a thread the policy SCHED_IDLE by the call whose policy a seccomp filter can see, so systemd's
// RestrictRealtime allows it.
func lower(thread int) error {
	var param struct{ priority int32 }
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(thread), unix.SCHED_IDLE, uintptr(unsafe.Pointer(&param)))
	if errno != 0 && !errors.Is(errno, unix.ESRCH) { // a thread that has ended needs no core
		return fmt.Errorf("sched_setscheduler: %w", errno)
	}
	return nil
}
