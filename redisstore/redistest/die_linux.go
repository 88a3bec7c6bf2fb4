package redistest

import "syscall"

// dieWithParent makes the kernel kill a server with its test, because a test that is killed runs no cleanup.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
