package redistest

import "syscall"

// dieWithParent: a test that is killed runs no cleanup.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
