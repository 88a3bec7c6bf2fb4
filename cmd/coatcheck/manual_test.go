package main

import (
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
)

// The table of commands, which shells and the man page have, names each flag of a command's own help.
func TestCommandsAreAllNamed(t *testing.T) {
	t.Parallel()
	settings := make(map[string]bool)
	for _, s := range config.Settings() {
		settings[s.Name] = true
	}
	for _, c := range commands() {
		_, help, _ := command(t, nil, c.Name, "--help")
		if c.Name != "help" {
			assert.Contains(t, usage(), "\n  coatcheck "+c.Name+" ", "usage names it")
		}
		if c.Name == "serve" || c.Name == "help" {
			continue
		}
		for _, m := range regexp.MustCompile(`--([a-z]+[a-z-]*)`).FindAllStringSubmatch(help, -1) {
			own := slices.ContainsFunc(c.Flags, func(f config.Info) bool { return f.Name == m[1] })
			assert.True(t, own || settings[m[1]], "%s: --%s", c.Name, m[1])
		}
		for _, f := range c.Flags {
			assert.Contains(t, help, "--"+f.Name)
		}
	}
}

func TestCompletionAndMan(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		code, out, errs := command(t, nil, "completion", shell)
		assert.Zero(t, code)
		assert.Empty(t, errs)
		assert.Contains(t, out, "max-lifetime", shell)
	}
	code, out, errs := command(t, nil, "man")
	assert.Zero(t, code)
	assert.Empty(t, errs)
	assert.Contains(t, out, ".TH COATCHECK 1 ")
	for _, args := range [][]string{{"completion"}, {"completion", "bsh"}, {"completion", "bash", "zsh"}} {
		code, out, errs := command(t, nil, args...)
		assert.Equal(t, exitUsage, code)
		assert.Empty(t, out)
		assert.Contains(t, errs, "Usage:")
	}
	_, _, errs = command(t, nil, "completion", "bsh")
	assert.Contains(t, errs, "did you mean bash?")
	_, _, errs = command(t, nil, "sesions")
	assert.Contains(t, errs, `"sesions" is no command; did you mean sessions?`)
	_, _, errs = command(t, nil, "hash-jbs")
	assert.NotContains(t, errs, "did you mean", "what only the server runs is named nowhere")
}
