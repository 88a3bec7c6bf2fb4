package conn

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Who speaks http to a port of https is told so, also while it is still sending. What is no HTTP gets no answer of HTTP.
func TestPlainHTTPOverTLS(t *testing.T) {
	const answer = "HTTP/1.1 400 Bad Request\r\n\r\n"
	ln := listenLocal(t)
	serverSide, client := localhost(t)
	s := newServer(Options{RequestTimeout: time.Minute, NotTLS: func() []byte { return []byte(answer) }})
	start(t, s, ln, serverSide)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		conn := connect(t, ln)
		_, err := io.WriteString(conn, method+" / HTTP/1.1\r\nHost: x\r\nContent-Length: 4194304\r\n\r\n")
		require.NoError(t, err)
		text := make([]byte, len(answer))
		_, err = io.ReadFull(conn, text)
		require.NoError(t, err, method)
		assert.Equal(t, answer, string(text))
		_, err = conn.Write(make([]byte, bigBody))
		require.NoError(t, err, "it is not cut off while it sends")
		rest, err := io.ReadAll(conn)
		require.NoError(t, err)
		assert.Empty(t, rest)
	}
	for _, other := range []string{"SSH-2.0-x\r\n", "\x00\x01\x02\x03\x04", "\x15\x03\x01\x00\x02\x02\x28"} {
		conn := connect(t, ln)
		_, err := io.WriteString(conn, other)
		require.NoError(t, err)
		assert.NotContains(t, readToEnd(t, conn), "HTTP")
	}
	assert.Equal(t, "HTTP/1.1 200 OK", ask(t, connect(t, ln), client))
}

// Without an answer for it, or where the listener itself speaks TLS, such a connection is closed.
func TestPlainHTTPWithoutAnAnswer(t *testing.T) {
	serverSide, _ := localhost(t)
	answering := newServer(Options{RequestTimeout: time.Minute, NotTLS: func() []byte { return []byte("plain text") }})
	for name, serve := range map[string]func(net.Listener){
		"none":                   func(ln net.Listener) { start(t, newServer(Options{RequestTimeout: time.Minute}), ln, serverSide) },
		"a listener that is TLS": func(ln net.Listener) { start(t, answering, tls.NewListener(ln, serverSide), nil) },
	} {
		ln := listenLocal(t)
		serve(ln)
		conn := connect(t, ln)
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
		require.NoError(t, err)
		assert.Empty(t, readToEnd(t, conn), name)
	}
}
