package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// CPU is processor time, of all threads together.
type CPU struct{ User, Kernel time.Duration }

// Total is the time in user mode and in the kernel.
func (c CPU) Total() time.Duration { return c.User + c.Kernel }

// Sub is the time since an earlier reading.
func (c CPU) Sub(earlier CPU) CPU { return CPU{c.User - earlier.User, c.Kernel - earlier.Kernel} }

// tick is the unit of the kernel's processor times: USER_HZ is 100 on every Linux that Go runs on.
const tick = time.Second / 100

// CPUOf is the processor time that a process has used since its start, in steps of ten milliseconds.
func CPUOf(pid int) (c CPU, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return c, err
	}
	// The program's name, in brackets, may hold blanks. Counted from there the fields 14 and 15 of proc(5) are 11 and 12.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	for i, into := range []*time.Duration{&c.User, &c.Kernel} {
		ticks, err := strconv.ParseInt(fields[11+i], 10, 64)
		if err != nil {
			return c, err
		}
		*into = time.Duration(ticks) * tick
	}
	return c, nil
}

// MachineCPU is the processor time that all programs of the machine have used since it booted.
func MachineCPU() (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	var user, nice, system int64
	if _, err := fmt.Sscanf(string(data), "cpu %d %d %d", &user, &nice, &system); err != nil {
		return 0, err
	}
	return time.Duration(user+nice+system) * tick, nil
}

// Resident is how many bytes of memory a process has resident.
func Resident(pid int) (int64, error) { return memory(pid, "VmRSS:") }

// PeakResident is the most memory, in bytes, that a process has ever had resident.
func PeakResident(pid int) (int64, error) { return memory(pid, "VmHWM:") }

func memory(pid int, name string) (int64, error) {
	file := fmt.Sprintf("/proc/%d/status", pid)
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, name)
}
