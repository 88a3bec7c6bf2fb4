package process

import "syscall"

// ownGroup makes a process that is in a group of its own and is killed when this process ends. Linux sends that signal when
// the thread that started the process ends, so a command that starts processes locks its main goroutine to its thread.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// sameGroup is like ownGroup, but the process stays in this one's group, so that a Ctrl-C reaches it too.
func sameGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
