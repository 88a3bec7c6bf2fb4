package fiber3session_test

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whoever takes the middleware compiles neither the server, nor Fiber v2, nor a store.
func TestDependencies(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	for _, unwanted := range []string{"coatcheck/server", "coatcheck/shardstore", "coatcheck/redisstore", "fiber/v2", "prometheus", "argon2", "opentelemetry", "rueidis"} {
		assert.NotContains(t, string(out), unwanted)
	}
}
