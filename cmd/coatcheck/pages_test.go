package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	inline     = regexp.MustCompile("`([^`\n]+(?:\n[^`\n]+)?)`")
	flagName   = regexp.MustCompile(`--[a-z][a-z0-9-]*`)
	subcommand = regexp.MustCompile(`^coatcheck ([a-z][a-z-]*)`)
	target     = regexp.MustCompile(`^make ([a-z][a-z0-9-]*)`)
	scriptName = regexp.MustCompile(`^scripts/[a-z-]+`)
)

// The commands, flags, targets and scripts that the pages name within sentences are there. make docs-check runs those in blocks.
func TestCommandsOfThePages(t *testing.T) {
	t.Parallel()
	_, usage, _ := command(t, nil, "--help")
	// What every program has, and what is Chromium's, dpkg's and curl's.
	flags := map[string]bool{"--help": true, "--resolve": true, "--enable-features": true, "--ignore-certificate-errors-spki-list": true, "--ignore-certificate-errors": true, "--force-confold": true}
	commands := map[string]bool{"hash-jobs": true} // which the server starts
	for _, m := range regexp.MustCompile(`(?m)^  coatcheck ([a-z-]+)`).FindAllStringSubmatch(usage, -1) {
		commands[m[1]] = true
		for _, args := range [][]string{{m[1], "--help"}, {m[1], "verify", "--help"}, {m[1], "list", "--help"}, {m[1], "revoke", "--help"}} {
			_, help, _ := command(t, nil, args...)
			for _, name := range flagName.FindAllString(help, -1) {
				flags[name] = true
			}
		}
	}
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	seen := 0
	for _, page := range append(pages, "../../README.md", "../../CONTRIBUTING.md", "../../SECURITY.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range inline.FindAllStringSubmatch(regexp.MustCompile("(?s)\n```.*?\n```").ReplaceAllString(string(text), ""), -1) {
			span := strings.ReplaceAll(m[1], "\n", " ")
			if named := subcommand.FindStringSubmatch(span); named != nil {
				assert.True(t, commands[named[1]], "%s: %s", page, span)
				seen++
			}
			if strings.HasPrefix(span, "--") || strings.HasPrefix(span, "coatcheck ") {
				for _, name := range flagName.FindAllString(span, -1) {
					assert.True(t, flags[name], "%s: no command has %s: %s", page, name, span)
					seen++
				}
			}
			if named := target.FindStringSubmatch(span); named != nil {
				assert.Contains(t, string(makefile), "\n"+named[1]+": ", "%s: %s", page, span)
				seen++
			}
			if named := scriptName.FindString(span); named != "" {
				assert.FileExists(t, "../../"+named, page)
				seen++
			}
		}
	}
	assert.Greater(t, seen, 200, "the pages name so many")
}

// docs/migrating.md shows the code that examples/migrating tests.
func TestMigratingPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/migrating.md")
	require.NoError(t, err)
	for file, begins := range map[string]string{"express/carry.mjs": "// Carries ", "scs/carry.go": "// carrier carries "} {
		code, err := os.ReadFile("../../examples/migrating/" + file)
		require.NoError(t, err)
		at := strings.Index(string(code), begins)
		require.GreaterOrEqual(t, at, 0, file)
		assert.Contains(t, string(page), "\n"+string(code[at:])+"```\n", file)
	}
}
