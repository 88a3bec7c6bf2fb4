//go:build unix

package doctor

import "syscall"

// maxFiles is how many descriptors a process that is started like this one may have.
func maxFiles() (uint64, bool) {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0, false
	}
	return uint64(limit.Max), true //nolint:unconvert // it is signed on some systems
}
