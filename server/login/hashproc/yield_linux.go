package hashproc

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// yield has the kernel run all threads of this process, and those that they start, when nothing else wants the core:
// SCHED_IDLE, whose threads give way at once to any that wakes up. At nice 19 they need not before their slice is over.
func yield() error {
	for lowered := 0; ; {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		if len(threads) == lowered { // none was started meanwhile by one that was not lowered yet
			return nil
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				return err
			}
			if err := unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0); err != nil {
				return fmt.Errorf("sched_setattr: %w", err)
			}
		}
		lowered = len(threads)
	}
}
