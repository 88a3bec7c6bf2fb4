// Package testport finds ports for the programs that tests start.
package testport

import (
	"context"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Free returns a port of 127.0.0.1 on which nothing listens, and which nobody else who asks here is given before the test has ended,
// whatever process they are in: until then the UDP port of the same number is held, which none of the programs uses. It is
// below the range that the kernel gives to outgoing connections and to listeners on port 0.
func Free(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 10_000 + rand.IntN(22_000)
		addr := "127.0.0.1:" + strconv.Itoa(port)
		held, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", addr)
		if err != nil {
			continue
		}
		ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
		if err != nil {
			_ = held.Close()
			continue
		}
		_ = ln.Close() // nothing was sent
		t.Cleanup(func() { _ = held.Close() })
		return port
	}
	t.Fatal("no port is free")
	return 0
}

// Address returns 127.0.0.1 with a port from Free.
func Address(t testing.TB) string {
	t.Helper()
	return "127.0.0.1:" + strconv.Itoa(Free(t))
}
