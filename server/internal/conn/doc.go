// Package conn accepts connections for a fasthttp.Server, limits them, keeps their deadlines, and drains them.
//
//	listener.go      Server and Options; accepting: retries when descriptors run out, adds TLS
//	limit.go         the limit on a client's connections; evict.go on all of them
//	conn.go          a tracked connection: whether it is new, active or idle, and how it reads and closes
//	deadline.go      lazy deadlines: Go's poller seldom hears of them
//	readable_linux.go waiting for a request without a read that finds nothing; readable_other.go where that is not known to work
//	lines.go         the limit on the lines of a header block and of trailers
//	readahead.go     the first byte of a request is not read alone, so that fasthttp holds no memory for a connection that waits
//	buffers.go       giving back the memory of a large request, which fasthttp would keep for others
//	discard.go       closing: what the client is still sending is read and thrown away first
//	plainhttp.go     the answer to a client that speaks http to a port of https
//	stream.go        a connection that a handler writes to for as long as its client reads
//	drain.go         stopping: stop accepting, close idle connections, let requests in flight finish
//	drain_linux.go   what draining asks of the kernel: drop SYNs, empty the accept backlog, look for unread bytes
//	drain_other.go   the same on systems that cannot do it
//
// A connection that fasthttp gets is a trackedConn over a deadlineConn over the socket, with a tls.Conn between the first two
// where the server speaks TLS.
//
// Locks: Server.mu and connLimit.mu; neither is held while the other is taken, nor while a connection is read, written or closed.
// docs/decisions/0039-what-a-connection-costs.md says why buffers.go, lines.go and discard.go are as they are; 0034-connections.md has the
// measurements behind deadline.go, 0028-a-stop-resets-nobody.md those behind draining.
package conn
