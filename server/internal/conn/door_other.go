//go:build !linux

package conn

import "net"

// deafen does nothing where there are no socket filters.
func deafen(net.Listener) bool { return false }

// drain does nothing where accept cannot be asked not to wait.
func drain(net.Listener) []net.Conn { return nil }

// unread reports nothing where the kernel is not asked.
func unread(net.Conn) bool { return false }
