// Package memory sets how much memory Go uses by what the container, or the systemd unit, may use (decision 40).
package memory

import (
	"bytes"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// Fit makes the garbage collector keep the process below the limit of its control groups, less a tenth and less what other
// processes in them need, in bytes. It returns the limit in force; 0: there is none, or GOMEMLIMIT names one, which stays.
func Fit(others int64) int64 {
	if os.Getenv("GOMEMLIMIT") != "" {
		return 0
	}
	limit := share(limitBelow("/"), others)
	if limit > 0 {
		debug.SetMemoryLimit(limit)
	}
	return limit
}

// share is what the garbage collector may use of a limit. It is half of the limit at least: below that the others must do with
// less.
func share(limit, others int64) int64 {
	if limit <= 0 {
		return 0
	}
	return max(limit/10*9-others, limit/2)
}

// limitBelow returns the least of the limits of this process's control groups, as the files below root have them; 0: there is none.
func limitBelow(root string) int64 {
	groups, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return 0 // not Linux, or no /proc
	}
	least := int64(math.MaxInt64)
	for line := range strings.Lines(string(groups)) {
		// ID:controllers:path; version 2 has the ID 0 and no controllers.
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(parts) < 3:
		case parts[0] == "0" && parts[1] == "":
			least = min(least, leastOf(filepath.Join(root, "sys/fs/cgroup"), parts[2], "memory.max", "memory.high"))
		case strings.Contains(","+parts[1]+",", ",memory,"):
			least = min(least, leastOf(filepath.Join(root, "sys/fs/cgroup/memory"), parts[2], "memory.limit_in_bytes"))
		}
	}
	if least >= unlimited {
		return 0
	}
	return least
}

// unlimited is a limit that no machine reaches: version 1 has a number near the largest one where there is no limit.
const unlimited = 1 << 60

// leastOf returns the least number in the files of these names, in the folder of a group and in those above it: a group obeys the
// limits of all of them. In a container the path may be that on the host, whose folders are not there, and the group's files stand
// at the top.
func leastOf(mount, group string, names ...string) int64 {
	least := int64(math.MaxInt64)
	for group = path.Clean("/" + group); ; group = path.Dir(group) {
		for _, name := range names {
			text, err := os.ReadFile(filepath.Join(mount, group, name))
			if err != nil {
				continue
			}
			if n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64); err == nil && n > 0 { // "max" is no limit
				least = min(least, n)
			}
		}
		if group == "/" {
			return least
		}
	}
}
