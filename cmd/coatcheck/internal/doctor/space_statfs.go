//go:build linux || darwin

package doctor

import "syscall"

// freeSpace is how many bytes the disk of a folder has left for users other than root.
func freeSpace(dir string) (uint64, bool) {
	var fs syscall.Statfs_t
	if syscall.Statfs(dir, &fs) != nil {
		return 0, false
	}
	return fs.Bavail * uint64(fs.Bsize), true //nolint:gosec,unconvert // its type differs between systems; it is not negative
}
