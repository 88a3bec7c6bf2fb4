//go:build !linux

package coatcheck

import "time"

// sinceBoot is a clock that also counts while the process is stopped, and that cannot be set.
func sinceBoot() time.Duration { return time.Since(started) }
