package server_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The document is in docs/, too, where people look for it; go:embed wants it here. What it says is held against every request
// and answer of TestContract.
func TestOpenAPICopy(t *testing.T) {
	served, err := os.ReadFile("openapi.yaml")
	require.NoError(t, err)
	copied, err := os.ReadFile("../docs/openapi.yaml")
	require.NoError(t, err)
	assert.Equal(t, string(served), string(copied), "cp server/openapi.yaml docs/openapi.yaml")
}
