package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A health check opens no file that only the server needs: not one that is missing, and not one that would hold it up, such as a
// pipe that nobody writes to.
func TestHealthcheckOpensNoFilesOfTheServer(t *testing.T) {
	t.Parallel()
	p := start(t)
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	for name, file := range map[string]string{"missing": filepath.Join(t.TempDir(), "none"), "pipe": pipe} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		cmd := exec.CommandContext(ctx, program(t), "healthcheck")
		cmd.Env = environment("COATCHECK_ADMIN_LISTEN="+strings.TrimPrefix(p.admin, "http://"), "COATCHECK_LOGIN=users",
			"COATCHECK_USERS_FILE="+file, "COATCHECK_TLS_CERT="+file, "COATCHECK_TLS_KEY="+file)
		out, err := cmd.CombinedOutput()
		cancel()
		require.NoError(t, err, "%s: %s", name, out)
		assert.Equal(t, "alive\n", string(out), name)
	}
}
