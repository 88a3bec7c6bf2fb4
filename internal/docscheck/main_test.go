package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const page = "# A page\n\n```sh\n# a remark\necho 'one\ntwo' |\ncat\ntrue \\\n  --flag\n```\n\n```console\n$ echo a\na\n$ echo b\n```\n\n```go\nfunc f() {}\n```\n"

func TestParse(t *testing.T) {
	commands, mistakes := parse("p.md", page)
	assert.Empty(t, mistakes)
	assert.Equal(t, []command{
		{page: "p.md", number: 5, line: "echo 'one\ntwo' |\ncat"},
		{page: "p.md", number: 8, line: "true \\\n  --flag"},
		{page: "p.md", number: 13, line: "echo a", prints: "a\n", shown: true},
		{page: "p.md", number: 15, line: "echo b", shown: true},
	}, commands)
	for text, mistake := range map[string]string{
		"```Dockerfile\nFROM scratch\n```\n":           "p.md:1: docs-check does not understand this fence: ```Dockerfile",
		"```c++\nint i;\n```\n":                        "p.md:1: docs-check does not understand this fence: ```c++",
		"```sh title=x\nfalse\n```\n\n```go\nx\n```\n": "p.md:1: docs-check does not understand this fence: ```sh title=x",
		"x\n\n\t```sh\n\tfalse\n\t```\n":               "p.md:3: docs-check does not understand this fence: \t```sh",
		"~~~sh\nfalse\n```\n~~~\n":                     "p.md:1: docs-check does not understand this fence: ~~~sh",
		"````\n```sh\nfalse\n```\n````\n":              "p.md:1: docs-check does not understand this fence: ````",
		"- ```sh\n  false\n  ```\n":                    "p.md:1: docs-check does not understand this fence: - ```sh",
		"> ```sh\n> false\n> ```\n":                    "p.md:1: docs-check does not understand this fence: > ```sh",
		"1. ```sh\n   false\n   ```\n":                 "p.md:1: docs-check does not understand this fence: 1. ```sh",
		"```sh\r\nfalse\r\n```\r\n":                    "p.md:1: docs-check does not understand this fence: ```sh\r",
		"```code``` in a sentence\n":                   "p.md:1: docs-check does not understand this fence: ```code```",
		"x\n\n```sh\nfalse\n":                          "p.md:3: the block that begins here has no end",
		"```go\nx\n```sh\nfalse\n```\n":                "p.md:3: a fence within a block, which does not end it: ```sh",
		"```go\nx\n```go\n```\n":                       "p.md:3: a fence within a block, which does not end it: ```go",
		"```sh\ncat <<E\n~~~\nE\n```\n":                "",
		"```\n$ coatcheck serve\n```":                  "p.md:2: a command in a block without a language",
		"```\nsudo systemctl stop x\n```":              "p.md:2: a command in a block without a language",
		"```fish\ncoatcheck serve\n```":                "p.md:1: blocks of fish are not known",
		"```console\ncoatcheck serve\n```":             "p.md:2: a console block begins with a command",
		"x\n\n```\ncoatcheck / ceiling  1\n```":        "",
	} {
		_, mistakes := parse("p.md", text)
		assert.Equal(t, mistake != "", len(mistakes) == 1, "%q: %q", text, mistakes)
		assert.True(t, strings.HasPrefix(strings.Join(mistakes, ""), mistake), "%q: %q", text, mistakes)
	}

	commands, mistakes = parse("p.md", "```sh title=x\nfalse\n```\n\n```sh\ntrue\n```\n\n```c++\n```\n\n```\tsh\nfalse\n")
	assert.Equal(t, []command{{page: "p.md", number: 6, line: "true"}}, commands, "what follows such a fence is read as it is meant")
	assert.Len(t, mistakes, 4, "%q", mistakes)
}

// A page whose commands fail, print something else, or are not there any more.
func TestRunPage(t *testing.T) {
	commands, _ := parse("p.md", page)
	ran, mistakes := runPage(t.TempDir(), "p.md", commands)
	assert.Equal(t, 4, ran)
	require.Len(t, mistakes, 1, "%q", mistakes)
	assert.Equal(t, "p.md:15: echo b\n\tthe page says\n\t\n\tand it prints\n\tb", mistakes[0])

	commands, _ = parse("p.md", "```sh\necho said; exit 3\n```\n```console\n$ echo '\"session_id\":\"abcdefghijklmnopqrstuv\"'\n\"session_id\":\"ABCDEFGHIJKLMNOPQRSTUV\"\n```\n")
	ran, mistakes = runPage(t.TempDir(), "p.md", commands)
	assert.Equal(t, 2, ran)
	require.Len(t, mistakes, 1, "%q", mistakes)
	assert.Equal(t, "p.md:2: echo said; exit 3\n\texit status 3\n\tsaid\n\t", mistakes[0])
}

// Every rule is about one command of the pages as they are.
func TestRules(t *testing.T) {
	var commands []command
	for _, of := range []string{"README.md", "CONTRIBUTING.md", "docs/*.md"} {
		paths, err := filepath.Glob("../../" + of)
		require.NoError(t, err)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			found, mistakes := parse(strings.TrimPrefix(path, "../../"), string(text))
			assert.Empty(t, mistakes)
			commands = append(commands, found...)
		}
	}
	assert.Empty(t, unused(commands))
	assert.NotEmpty(t, unused(commands[1:]), "of the first command, which is gone")
	others := slices.DeleteFunc(slices.Clone(commands), func(c command) bool { return c.page == "docs/install.md" })
	assert.Equal(t, []string{"internal/docscheck/rules.go: no commands are on docs/install.md"}, unused(others))
	assert.NotEmpty(t, unused(append(commands, commands[0])), "of the first command, which is there twice")
}

// What a command needs before it, beside it and after it.
func TestTry(t *testing.T) {
	for name, tt := range map[string]struct {
		line  string
		r     rule
		fails string
	}{
		"input":         {"read -r x; [ \"$x\" = hello ]", rule{input: "hello\n"}, ""},
		"replaced":      {"cat /etc/nothing", rule{replace: []string{"/etc/nothing", "mine"}, before: "echo hi >mine"}, ""},
		"variables":     {"[ \"$A\" = 1 ]", rule{before: "echo A=1 >env"}, ""},
		"no variable":   {"echo \"$A\"", rule{}, "unbound variable"},
		"beside it":     {"echo on; until [ -e there ]; do sleep 0.01; done", rule{once: "on\n", then: "touch there"}, ""},
		"ends too soon": {"echo off", rule{once: "on\n", then: "touch there"}, "it ended early"},
		"before fails":  {"true", rule{before: "echo no; false"}, "before it: exit status 1\nno"},
		"after fails":   {"true", rule{after: "echo no; false"}, "after it, echo no; false: exit status 1\nno"},
		"a pipe fails":  {"false | cat", rule{}, "exit status 1"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			err := (&terminal{dir: dir, env: append(os.Environ(), "SCRATCH="+dir)}).try(command{line: tt.line}, tt.r)
			if tt.fails == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, tt.fails)
			}
		})
	}
}

// A page that would change the machine is read and not run.
func TestUnrunPages(t *testing.T) {
	clone := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(clone, "docs"), 0o755))
	for name, text := range map[string]string{
		"README.md": "", "CONTRIBUTING.md": "", "docs/other.md": "```sh\ntrue\n```\n", "docs/install.md": "```sh\nfalse\n```\n\n```sh x\n```\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(clone, name), []byte(text), 0o600))
	}
	ran, mistakes := check(clone)
	assert.Equal(t, 1, ran)
	require.NotEmpty(t, mistakes)
	assert.Contains(t, mistakes[0], "docs/install.md:5: docs-check does not understand this fence")
	for _, m := range mistakes[1:] { // about rules for pages that are not there
		assert.Contains(t, m, "internal/docscheck/rules.go: ")
	}
}
