package server_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// docs/http.md lists every problem of problem.go, and no other, and every route.
func TestHTTPPage(t *testing.T) {
	page, err := os.ReadFile("../docs/http.md")
	require.NoError(t, err)
	source := func(file string) string {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		return string(text)
	}
	matches := func(pattern, text string) (found []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			found = append(found, m[1]+" "+m[2])
		}
		slices.Sort(found)
		require.NotEmpty(t, found)
		return found
	}
	rows := regexp.MustCompile("(?m)^\\| (\\d{3}) \\| `(\\w+)` \\| (.*) \\|$").FindAllStringSubmatch(string(page), -1)
	problems := regexp.MustCompile(`NewProblem\((\d+), "(\w+)", "(.*?)"\)`).FindAllStringSubmatch(source("problem.go")+source("../internal/middleware/problem.go"), -1)
	require.Greater(t, len(problems), 20)
	cells := func(all [][]string) (rows [][]string) {
		for _, m := range all {
			rows = append(rows, m[1:])
		}
		return rows
	}
	assert.ElementsMatch(t, cells(problems), cells(rows))

	codes := make(map[string]bool)
	for _, m := range problems {
		codes[m[2]] = true
	}
	for _, m := range regexp.MustCompile("\\b[45]\\d\\d `(\\w+)`").FindAllStringSubmatch(string(page), -1) {
		assert.True(t, codes[m[1]], m[0])
	}
	for _, file := range []string{"app.go", "admin.go", "provider.go"} {
		for _, route := range matches(`(?:app|s\.public)\.(Get|Post|Delete|All)\("([^"]+)"`, source(file)) {
			method, path := regexp.MustCompile(`^\w+`).FindString(route), regexp.MustCompile(`/.*`).FindString(route)
			path = regexp.MustCompile(`:(\w+)`).ReplaceAllString(path, "{$1}")
			names := map[string]string{"Get": "GET", "All": "GET", "Post": "POST", "Delete": "DELETE"}
			name := "`" + names[method] + " " + path + "`"
			assert.True(t, strings.Contains(string(page), name), name)
		}
	}
}
