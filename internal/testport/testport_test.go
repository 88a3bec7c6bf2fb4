package testport_test

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testport"
)

// By chance alone six of so many would repeat.
func TestFreeDoesNotRepeat(t *testing.T) {
	seen := make(map[int]bool)
	for range 500 {
		port := testport.Free(t)
		require.False(t, seen[port], "%d", port)
		seen[port] = true
	}
}

func TestFreeIsGivenBack(t *testing.T) {
	var address string
	t.Run("held", func(t *testing.T) {
		address = testport.Address(t)
		_, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", address)
		require.Error(t, err)
		ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		require.NoError(t, err, "it is there for a program")
		assert.NoError(t, ln.Close())
	})
	held, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", address)
	require.NoError(t, err)
	assert.NoError(t, held.Close())
}
