//go:build real

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The command of docs/operations.md for a copy that was restored ends the sessions of the users whom the log names, and nobody's where
// the log may lack one.
func TestRestoreByTheLog(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(page), "```sh\njq ")
	require.True(t, found)
	block, _, _ := strings.Cut(rest, "```")
	script := "coatcheck() { echo \"$4\"; }\njq " + block

	since := time.Date(2026, 11, 23, 16, 0, 0, 0, time.UTC)
	line := func(second int, event, user, more string) string {
		return fmt.Sprintf(`{"time":%q,"level":"INFO","msg":"audit","event":%q,"user":%q%s}`,
			since.Add(time.Duration(second)*time.Second).Format("2006-01-02T15:04:05.000Z07:00"), event, user, more) + "\n"
	}
	refreshes := func(n, every int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(line(1+i*every, "refresh", "ann", ""))
		}
		return b.String()
	}
	others := line(1, "logout", "o'neil x", "") + line(1, "login", "bob", "") + line(-1, "logout", "carl", "")
	for name, tt := range map[string]struct {
		log   string
		ended string // none: the command fails
	}{
		"few":                      {refreshes(59, 0) + others, "ann\no'neil x\n"},
		"many, and slowly":         {refreshes(200, 2) + others, "ann\no'neil x\n"},
		"60 in a minute":           {refreshes(60, 1) + others, ""},
		"60 on two nodes":          {refreshes(30, 1) + others + refreshes(30, 1), ""},
		"some omitted":             {others + line(1, "refresh", "ann", `,"omitted":140`), ""},
		"others omitted":           {others + line(1, "login_failed", "dan", `,"omitted":140`), "o'neil x\n"},
		"lines dropped":            {others + `{"time":"2026-11-23T17:00:00.000Z","level":"WARN","msg":"log lines were dropped, because of a reason","lines":3}` + "\n", ""},
		"lines dropped beforehand": {`{"time":"2026-11-23T15:00:00.000Z","level":"WARN","msg":"log lines were dropped, because of a reason","lines":3}` + "\n" + others, "o'neil x\n"},
		"plain text":               {"coatcheck listens on http://127.0.0.1:3000\n" + others + "coatcheck: --listen: listen tcp: bind: address already in use\n\n", "o'neil x\n"},
		"a line cut short":         {others + line(1, "logout", "dan", "")[:20] + "\n" + others, ""},
		"a line cut at its start":  {others + line(1, "logout", "dan", "")[20:], ""},
		"the journal's prefix":     {others + "Nov 23 17:00:00 host coatcheck[1]: " + line(1, "logout", "dan", ""), ""},
		"the text format":          {others + "time=2026-11-23T17:00:00.000Z level=INFO msg=audit event=logout user=dan\n", ""},
	} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "coatcheck.log"), []byte(tt.log), 0o600))
		cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
		cmd.Dir = dir
		out, err := cmd.Output()
		assert.Equal(t, tt.ended, string(out), name)
		assert.Equal(t, tt.ended == "", err != nil, "%s: %v", name, err)
	}
}
