package server_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// docs/security.md names tests. Each of them is there, with its subtests, so that a renamed test cannot leave a promise
// without proof.
func TestSecurityPageNamesTests(t *testing.T) {
	page, err := os.ReadFile("../docs/security.md")
	require.NoError(t, err)
	named := regexp.MustCompile("`([a-z0-9]+(?:/[a-z0-9]+)*)\\.((?:Test|Fuzz)[^`/]+)([^`]*)`").FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(named), 50)
	sources := make(map[string]string) // by package, which is the folder's name
	for _, m := range named {
		dir := "../" + m[1]
		if m[1] == "coatcheck" {
			dir = ".."
		}
		if sources[m[1]] == "" {
			sources[m[1]] = goSource(t, dir, "_test.go")
		}
	}
	shared := goSource(t, "../internal/httpcontract", ".go")
	ofServer, ofMiddleware := goSource(t, "servertest", ".go")+shared, goSource(t, "../internal/middlewaretest", ".go")+shared
	rules := map[string]string{
		"server.TestContract": ofServer, "server.TestContractOnRedis": ofServer, "fibersession.TestContract": ofMiddleware, "fibersession.TestContractOnRedis": ofMiddleware,
		"httpsession.TestContract": ofMiddleware, "fiber3session.TestContract": ofMiddleware,
		"shardstore.TestConformance": goSource(t, "../storetest", ".go"), "redisstore.TestConformance": goSource(t, "../storetest", ".go"),
	}
	for _, m := range named {
		assert.True(t, strings.Contains(sources[m[1]], "func "+m[2]+"("), "no test of this name: %s", m[0])
		for _, part := range strings.Split(strings.TrimPrefix(m[3], "/"), "/") {
			if part != "" {
				assert.True(t, strings.Contains(sources[m[1]]+rules[m[1]+"."+m[2]], `"`+part+`"`), "no subtest %q: %s", part, m[0])
			}
		}
	}
	for _, row := range strings.Split(string(page), "\n") {
		if regexp.MustCompile(`^\| [A-Z]{3}-\d\d `).MatchString(row) {
			assert.Equal(t, 4, strings.Count(row, "|"), row)
			assert.Regexp(t, "`.*(Test|Fuzz)", row)
		}
	}
}

// goSource is the text of a folder's files whose names end like this.
func goSource(t *testing.T, dir, end string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"+end))
	require.NoError(t, err)
	require.NotEmpty(t, files, dir)
	var b strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		b.Write(text)
	}
	return b.String()
}
