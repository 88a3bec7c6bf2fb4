package testport_test

import (
	"fmt"
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

func TestFreeIsThereForAProgram(t *testing.T) {
	port := testport.Free(t)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	require.NoError(t, err)
	assert.NoError(t, ln.Close())
}
