//go:build !linux

package conn

import "net"

// dropSYNs does nothing where there are no socket filters.
func dropSYNs(net.Listener) bool { return false }

// acceptBacklog does nothing where accept cannot be asked not to wait.
func acceptBacklog(net.Listener) []net.Conn { return nil }

// hasUnread reports nothing where the kernel is not asked.
func hasUnread(net.Conn) bool { return false }
