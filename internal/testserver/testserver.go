// Package testserver has the servers of tests that answer what no honest server answers.
package testserver

import (
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Serve listens on loopback until the test ends and returns the address. Each connection is handled in a goroutine of its own and
// closed behind handle.
func Serve(t testing.TB, handle func(net.Conn)) (address string) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, ln.Close()) })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				handle(conn)
			}()
		}
	}()
	return ln.Addr().String()
}

// SwitchProtocols answers 101 and then nothing. It returns when the client has closed the connection; an error says that it did not, or
// that it had no answer.
func SwitchProtocols(w http.ResponseWriter) error {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	_, end := io.Copy(io.Discard, conn)
	return errors.Join(err, end, conn.Close())
}
