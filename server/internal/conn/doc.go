// Package conn accepts connections for a fasthttp.Server, limits them, keeps their deadlines, and drains them.
//
//	listener.go      Server and Options; accepting: retries when descriptors run out, adds TLS
//	limit.go         the limit on a client's connections
//	conn.go          a tracked connection: whether it is new, active or idle, and how it reads and closes
//	deadline.go      lazy deadlines: a deadline is set only when a read or a write is about to block
//	deadline_*.go    the system calls of deadline.go
//	stream.go        a connection that a handler writes to for as long as its client reads
//	drain.go         stopping: stop accepting, close idle connections, let requests in flight finish
//	drain_linux.go   what draining asks of the kernel: drop SYNs, empty the accept backlog, look for unread bytes
//	drain_other.go   the same on systems that cannot do it
//
// A connection that fasthttp gets is a trackedConn over a deadlineConn over the socket, with a tls.Conn between the first two
// where the server speaks TLS.
//
// Locks: Server.mu and connLimit.mu; neither is held while the other is taken, nor while a connection is read, written or closed.
// docs/decisions/0034-connections.md has the measurements behind deadline.go, 0028-a-stop-resets-nobody.md those behind draining.
package conn
