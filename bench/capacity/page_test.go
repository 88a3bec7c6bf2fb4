package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// docs/capacity.md shows what the model and the measured constants say now.
func TestPage(t *testing.T) {
	const page = "../../docs/capacity.md"
	want, err := os.ReadFile(page)
	require.NoError(t, err)
	again := filepath.Join(t.TempDir(), "capacity.md")
	require.NoError(t, os.WriteFile(again, want, 0o600))
	l := Load{Sessions: 1e6, Every: 30, Nodes: 3, Reached: 3, Primaries: 1, RenewEvery: 180e9, CacheTTL: 60e9}
	require.NoError(t, run(l, "measured.json", again))
	got, err := os.ReadFile(again)
	require.NoError(t, err)
	assert.Equal(t, string(want), string(got), "make capacity-report")

	require.ErrorIs(t, run(l, "nowhere.json", again), os.ErrNotExist)
	l.Nodes = 0
	require.ErrorContains(t, run(l, "", again), "nodes")
}
