package main

import (
	"maps"
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

// accepted returns the flags of each command, and under "" those that anything on the pages may have.
func accepted(t *testing.T) map[string]map[string]bool {
	t.Helper()
	_, usage, _ := command(t, nil, "serve", "--help")
	settings := flagName.FindAllString(usage, -1)
	// What is Chromium's, dpkg's, curl's and docker's.
	all := map[string]bool{"--resolve": true, "--enable-features": true, "--ignore-certificate-errors-spki-list": true, "--ignore-certificate-errors": true, "--force-confold": true, "--build-arg": true}
	flags := map[string]map[string]bool{"": all, "hash-jobs": {}} // which the server starts
	for _, c := range described() {
		own := map[string]bool{"--help": true}
		for _, f := range c.Flags {
			own["--"+f.Name] = true
		}
		if c.Settings {
			for _, name := range settings {
				own[name] = true
			}
		}
		flags[c.Name] = own
		maps.Copy(all, own)
	}
	return flags
}

// misnamed returns what a span of code on a page says of the program that is not so, and how many names it has.
func misnamed(flags map[string]map[string]bool, span string) (mistakes []string, seen int) {
	of := ""
	if named := subcommand.FindStringSubmatch(span); named != nil {
		seen++
		if flags[named[1]] == nil {
			return []string{"there is no command " + named[1]}, seen
		}
		of = named[1]
	}
	if strings.HasPrefix(span, "--") || strings.HasPrefix(span, "coatcheck ") {
		for _, name := range flagName.FindAllString(span, -1) {
			seen++
			if !flags[of][name] {
				mistakes = append(mistakes, strings.TrimSpace("coatcheck "+of)+" has no "+name)
			}
		}
	}
	return mistakes, seen
}

func TestMisnamed(t *testing.T) {
	t.Parallel()
	flags := accepted(t)
	for span, want := range map[string][]string{
		"coatcheck serve --dbsc": nil, "coatcheck data verify --data-dir x": nil, "coatcheck sessions list --json": nil, "--json": nil, "coatcheck --dbsc": nil,
		"--force-confold": nil, "make --x": nil,
		"coatcheck man --dbsc":           {"coatcheck man has no --dbsc"},
		"coatcheck serve --json --dbsc":  {"coatcheck serve has no --json"},
		"coatcheck doctor --admin-url":   {"coatcheck doctor has no --admin-url"},
		"coatcheck serve --resolve":      {"coatcheck serve has no --resolve"},
		"coatcheck hash-password --dbsc": {"coatcheck hash-password has no --dbsc"},
		"--there-is-none":                {"coatcheck has no --there-is-none"},
		"coatcheck nothing --dbsc":       {"there is no command nothing"},
	} {
		mistakes, _ := misnamed(flags, span)
		assert.Equal(t, want, mistakes, span)
	}
}

// The commands, flags, targets and scripts that the pages name within sentences are there. make docs-check runs those in blocks.
func TestCommandsOfThePages(t *testing.T) {
	t.Parallel()
	flags := accepted(t)
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
			mistakes, names := misnamed(flags, span)
			assert.Empty(t, mistakes, "%s: %s", page, span)
			seen += names
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

// CONTRIBUTING.md says of each package of these folders what it is for.
func TestLayout(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../CONTRIBUTING.md")
	require.NoError(t, err)
	for _, of := range []string{"", "internal/", "server/", "server/internal/"} {
		files, err := filepath.Glob("../../" + of + "*/*.go")
		require.NoError(t, err)
		folders := map[string]bool{}
		for _, file := range files {
			folders[strings.TrimPrefix(filepath.Dir(file), "../../")+"/"] = true
		}
		for folder := range folders {
			assert.True(t, regexp.MustCompile("[\n ]"+folder).Match(page), "the layout lacks %s", folder)
		}
	}
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
