//go:build real

package main

import (
	"bytes"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestUntilEndedInNode(t *testing.T) {
	url := serve(t)
	session := post(t, url+"/auth/login", `{"user_id":"ann"}`, "")
	cmd := exec.CommandContext(t.Context(), "node", "watch.mjs", url, session)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	post(t, url+"/auth/logout", "", session)
	require.NoError(t, cmd.Wait())
	assert.Equal(t, "ended\n", out.String())
}
