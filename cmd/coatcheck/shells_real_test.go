//go:build real

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The shells take their scripts, and complete; man's formatters find nothing wrong with the page.
func TestShellsAndManAccept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string, args ...string) string {
		code, text, errs := command(t, nil, args...)
		require.Zero(t, code, errs)
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	output := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env = append(os.Environ(), "HOME="+dir)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", name, out)
		return string(out)
	}
	fish := file("coatcheck.fish", "completion", "fish")
	assert.Empty(t, output("fish", "-n", fish))
	complete := func(line string) string { return output("fish", "-c", "source "+fish+"; complete -C '"+line+"'") }
	assert.Regexp(t, `(?m)^trusted\t`, complete("coatcheck serve --login "))
	assert.Regexp(t, `(?m)^sessions\t`, complete("coatcheck se"))
	assert.Regexp(t, `(?m)^--max-lifetime\t`, complete("coatcheck doctor --max-l"))

	zsh := file("_coatcheck", "completion", "zsh")
	assert.Empty(t, output("zsh", "-n", zsh))
	// The completion system needs a terminal, which zpty is.
	assert.Contains(t, output("zsh", "-fc", `zmodload zsh/zpty; zpty z zsh -fi
		zpty -w z "PS1=; fpath=(`+dir+` \$fpath); autoload -Uz compinit; compinit -u -D; zstyle ':completion:*' list-rows-first yes"
		zpty -n -w z "coatcheck serve --max-l"$'\t'"5h; exit"$'\n'
		zpty -r z line '*--max-lifetime*' && print -r -- $line`), "--max-lifetime")

	page := file("coatcheck.1", "man")
	assert.Empty(t, output("groff", "-man", "-ww", "-Tutf8", "-z", page))
	output("mandoc", "-T", "lint", "-W", "error", page)
}
