package conn

// readAhead is what has arrived behind a byte that was read alone. With ReduceMemoryUsage fasthttp waits for the first byte of a request
// with nothing in its hands, and takes the request, its answer and the buffers from those of others when it is there: thousands of
// connections that wait share the memory of the few that are being served, which the processor still has in its caches. That first
// byte would be a system call more, so whoever reads one byte has a buffer filled, and the next read takes the rest of it.
// docs/decisions/0039-what-a-connection-costs.md has the measurements.
type readAhead struct {
	space  []byte // nil: nothing was read this way yet
	unread []byte // a part of space
}

// aheadBytes holds most requests, and every waiting connection has so much. fasthttp's buffer, which takes all of it at once, is never
// smaller.
const aheadBytes = 1 << 10

// buffer returns where to read to. What take has not returned yet is lost.
func (r *readAhead) buffer() []byte {
	if r.space == nil {
		r.space = make([]byte, aheadBytes)
	}
	return r.space
}

// keep says how many bytes were read into the buffer.
func (r *readAhead) keep(n int) { r.unread = r.space[:n] }

// take returns how many bytes it has copied to b, none if there are none.
func (r *readAhead) take(b []byte) int {
	n := copy(b, r.unread)
	r.unread = r.unread[n:]
	return n
}
