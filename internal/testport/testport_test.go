package testport_test

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testport"
)

// A third of all ports are asked for, so that chance alone would repeat thousands.
func TestFreeDoesNotRepeat(t *testing.T) {
	seen := make(map[int]bool)
	for range 7000 {
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
