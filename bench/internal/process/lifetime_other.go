//go:build !linux

package process

import "syscall"

// Other systems do not end a process with the one that started it.
func ownGroup() *syscall.SysProcAttr  { return nil }
func sameGroup() *syscall.SysProcAttr { return nil }
