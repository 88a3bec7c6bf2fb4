//go:build !linux && !darwin

package doctor

// freeSpace is not asked for: systems differ in how.
func freeSpace(string) (uint64, bool) { return 0, false }
