package redisstore

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the scripts into docs/operations.md")

// The scripts are documented word for word: operators have to be able to see what runs in their Redis.
func TestDocs(t *testing.T) {
	const file = "../docs/operations.md"
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(text), " -update -->\n")
	require.True(t, ok)
	_, tail, ok := strings.Cut(rest, "<!-- scripts: end -->")
	require.True(t, ok)
	var want strings.Builder
	want.WriteString(head + " -update -->\n")
	block := func(name, body string) {
		want.WriteString("\n" + name + ":\n\n```lua\n" + strings.TrimSpace(body) + "\n```\n")
	}
	block("The beginning of all but Create, Swap, End, the wait of a login, the trial of a write and those of a provider", prelude)
	for _, s := range []struct {
		name string
		*script
	}{
		{"Create", createScript},
		{"Swap", swapScript},
		{"End", endScript},
		{"EndUser", endUserScript},
		{"List", listScript},
		{"How long a login has to wait", waitScript},
		{"Counting a failed login", reserveScript},
		{"Taking one back", giveBackScript},
		{"Forgetting all", resetScript},
		{"A session of an OpenID Connect provider: whether it has ended", endedScript},
		{"Adding one of ours to it", addEntryScript},
		{"Its end", endEntriesScript},
		{"A logout token: an attempt at its work", beginTokenScript},
		{"Its work is done", doneTokenScript},
		{"Its work has failed", forgetTokenScript},
		{"Deletion of a damaged record", dropScript},
		{"End of a session that no index holds, with --redis-allow-eviction", endOrphanScript},
		{"Trying a write", probeScript},
		{"Confirmation, with --redis-wait-replicas", confirmScript},
	} {
		block(s.name, strings.TrimPrefix(s.text, prelude))
	}
	want.WriteString("\n<!-- scripts: end -->" + tail)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(want.String()), 0o644))
		return
	}
	assert.Equal(t, want.String(), string(text), "go test ./redisstore -run TestDocs -update")
}
