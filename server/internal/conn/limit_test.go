package conn

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Over TLS a connection beyond the limit is closed without a response, which would have to wait for a handshake.
func TestConnLimitOverTLS(t *testing.T) {
	ln := listenLocal(t)
	serverSide, client := localhost(t)
	s := newServer(Options{RequestTimeout: time.Minute, MaxPerClient: 1, Refusal: func() []byte { return []byte("plain text") }})
	start(t, s, ln, serverSide)
	one := connect(t, ln)
	assert.Equal(t, "HTTP/1.1 200 OK", ask(t, one, client))
	assert.Empty(t, readToEnd(t, connect(t, ln)))
	require.NoError(t, one.Close())
	eventually(t, func() bool {
		s.limit.mu.Lock()
		defer s.limit.mu.Unlock()
		return len(s.limit.open) == 0
	})
}
