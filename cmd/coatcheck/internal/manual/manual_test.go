package manual_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/manual"
)

var commands = []manual.Command{
	{Name: "serve", Args: "[flags]", About: "start the server; it's easy: try [--dev]", Settings: true},
	{Name: "sessions", Args: "list|revoke USER", About: "show or end", Words: []string{"list", "revoke"}, Flags: []config.Info{{
		Name: "json",
		Help: "print JSON",
	}, {Name: "admin-url", Noun: "URL", Help: "where"}}},
	{Name: "version", About: "print the version"},
}

// bash completes what a person has typed so far, as bash splits it into words.
func TestBash(t *testing.T) {
	script, known := manual.Completion("bash", commands)
	require.True(t, known)
	for _, tt := range []struct {
		typed string // words, the last one being completed
		want  string // contained; "" is nothing
		not   string
	}{
		{"coatcheck|", "serve sessions version", "--ttl"},
		{"coatcheck|se", "serve sessions", "version"},
		{"coatcheck|serve|--max-l", "--max-lifetime", "--max-sessions"},
		{"coatcheck|serve|--login|", "open trusted users webhook", "--"},
		{"coatcheck|serve|--login|=", "open trusted users webhook", "--"},
		{"coatcheck|serve|--login|=|tr", "trusted", "open"},
		{"coatcheck|serve|--ttl|", "", "-"},
		{"coatcheck|serve|--config|/etc/host", "/etc/hosts", "--"},
		{"coatcheck|serve|--dev|--log-f", "--log-format", ""},
		{"coatcheck|sessions|", "list revoke --json", "--ttl"},
		{"coatcheck|version|--", "--help", "--ttl"},
		{"coatcheck|nothing|--", "", "-"},
	} {
		words := strings.Split(tt.typed, "|")
		quoted := "'" + strings.Join(words, "' '") + "'"
		run := script + "\nCOMP_WORDS=(" + quoted + "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _coatcheck; echo \"${COMPREPLY[*]}\"\n"
		out, err := exec.CommandContext(t.Context(), "bash", "-u", "-c", run).CombinedOutput()
		require.NoError(t, err, "%s", out)
		got := strings.TrimSpace(string(out))
		if tt.want == "" {
			assert.Empty(t, got, tt.typed)
		}
		assert.Contains(t, got, tt.want, tt.typed)
		if tt.not != "" {
			assert.NotContains(t, got, tt.not, tt.typed)
		}
	}
}

// Every setting and every word stands in every script; that the shells take them is a test of make test-real.
func TestScripts(t *testing.T) {
	for _, shell := range manual.Shells {
		script, known := manual.Completion(shell, commands)
		require.True(t, known, shell)
		for _, c := range commands {
			assert.Contains(t, script, c.Name, shell)
		}
		for _, s := range config.Settings() {
			assert.Regexp(t, `(--|-l )`+s.Name+`\b`, script, shell)
		}
	}
	_, known := manual.Completion("sh", commands)
	assert.False(t, known)
}

func TestPage(t *testing.T) {
	page := manual.Page("v1.2.3", commands)
	assert.True(t, strings.HasPrefix(page, ".TH COATCHECK 1 "))
	plain := strings.ReplaceAll(page, `\-`, "-")
	for _, s := range config.Settings() {
		assert.Contains(t, plain, `\fB--`+s.Name+`\fR`)
		assert.Contains(t, plain, s.Env)
	}
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			assert.Regexp(t, `^\.(TH|SH|SS|TP|B|BR|RS|RE|nf|fi)\b`, line, "a line of text that troff takes for a request")
		}
	}
}
