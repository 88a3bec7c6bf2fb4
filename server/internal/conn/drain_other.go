//go:build !linux

package conn

import "net"

// dropSYNs does nothing: there are no socket filters for TCP.
func dropSYNs(net.Listener) bool { return false }

// acceptBacklog does nothing: net has no accept that does not block.
func acceptBacklog(net.Listener) []net.Conn { return nil }

// hasUnread reports nothing: golang.org/x/sys/unix does not have the request (FIONREAD) on all of these systems.
func hasUnread(net.Conn) bool { return false }

// hasUnreadOrShut is hasUnread.
func hasUnreadOrShut(net.Conn) bool { return false }
