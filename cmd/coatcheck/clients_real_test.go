//go:build real

package main

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Login, me, refresh and logout as other people's clients do them, against the built program. curl's turn is TestReadme; the
// browser's is package server/browsertest.
func TestClients(t *testing.T) {
	t.Parallel()
	p := start(t)
	for _, tt := range []struct {
		client, script, prints string
	}{
		{"node", "testdata/recipe.mjs", "login, me\nrefresh\nparallel refreshes\nlogout\n"},
		{"python3", "testdata/recipe.py", "login, me\nrefresh\nlogout\n"},
	} {
		t.Run(tt.client, func(t *testing.T) {
			program, err := exec.LookPath(tt.client)
			require.NoError(t, err, "make tools installs it")
			out, err := exec.CommandContext(t.Context(), program, tt.script, p.url).CombinedOutput()
			require.NoError(t, err, "%s", out)
			assert.Equal(t, tt.prints, string(out))
		})
	}
}
