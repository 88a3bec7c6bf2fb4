package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/daemon"
)

// readme returns the commands that README.md shows at a prompt, and what it says that they print.
func readme(t *testing.T) (commands, answers []string) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSuffix(line, "\n")
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				commands, answers = append(commands, command), append(answers, "")
			} else {
				answers[len(answers)-1] += line + "\n"
			}
		}
	}
	return commands, answers
}

var sessionID = regexp.MustCompile(`"session_id":"[A-Za-z0-9_-]{22}"`)

// The newcomer's first minute: what the server prints and what README.md shows are the same four commands, and with the
// real curl and its cookie jar they answer what README.md says.
func TestReadme(t *testing.T) {
	t.Parallel()
	commands, answers := readme(t)
	require.Equal(t, daemon.CurlLines("http://127.0.0.1:3000"), commands)
	p := start(t)
	require.Contains(t, p.stdout.String(), "\nTry it:\n  "+strings.Join(daemon.CurlLines(p.url), "\n  ")+"\n")

	jar := t.TempDir()
	var ids []string
	for i, line := range daemon.CurlLines(p.url) {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
		cmd.Dir = jar
		got, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", line, got)
		assert.Equal(t, sessionID.ReplaceAllString(answers[i], "ID"), sessionID.ReplaceAllString(string(got), "ID"), line)
		ids = append(ids, sessionID.FindString(string(got)))
	}
	assert.NotEmpty(t, ids[0])
	assert.Equal(t, ids[0], ids[1], "me shows the session that login began")
	assert.NotEqual(t, ids[1], ids[2], "refresh changes the ID")
	content, err := os.ReadFile(jar + "/jar.txt")
	require.NoError(t, err)
	assert.NotContains(t, string(content), "coatcheck\t", "logout leaves no cookie in the jar")

	p.signal(t, syscall.SIGTERM)
	assert.Zero(t, p.wait(t))
}

// The whole programs that the pages show are programs.
func TestProgramsOfThePagesBuild(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"README.md", "docs/migrating.md"} {
		text, err := os.ReadFile("../../" + page)
		require.NoError(t, err)
		blocks := regexp.MustCompile("(?s)```go\n(package main.*?)```").FindAllSubmatch(text, -1)
		require.Len(t, blocks, 1, page)
		source := filepath.Join(t.TempDir(), "main.go")
		require.NoError(t, os.WriteFile(source, blocks[0][1], 0o600))
		// As the shipped program is, most of whose packages these use. go vet would find a little more, and compile all of them again.
		build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", filepath.Join(t.TempDir(), "main"), source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := build.CombinedOutput()
		require.NoError(t, err, "%s: %s", page, out)
	}
}

// Every link of the pages to a file of ours leads to one, and to a heading that is there; and README.md leads to every page of docs.
func TestLinksOfThePages(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	linked := make(map[string]bool) // from README.md
	for _, page := range append(pages, "../../README.md", "../../CONTRIBUTING.md", "../../SECURITY.md", "../../bench/peers/README.md", "../../k6/README.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`\]\(([^)(:# ",]*)(#[^)]*)?\)`).FindAllStringSubmatch(string(text), -1) {
			to := page
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(page), m[1])
			}
			_, err := os.Stat(to)
			assert.NoError(t, err, page)
			if err == nil && m[2] != "" {
				assert.Contains(t, headings(t, to), m[2], page)
			}
			linked[to] = linked[to] || page == "../../README.md"
		}
	}
	for _, page := range pages {
		assert.True(t, linked[page], "README.md does not lead to %s", page)
	}
}

// headings returns the names by which GitHub links to a page's headings.
func headings(t *testing.T, page string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(text), -1) {
		name := regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, "#"+strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
