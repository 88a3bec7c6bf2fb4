package coatcheck_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// notInFull are the tests that make test runs under the race detector alone, though they do a tenth there of what they do without it: each
// takes more than two seconds without it, and a tenth shows the same, less often.
var notInFull = map[string]string{
	"redisstore.TestConformanceOnCluster":        "its loop is that of TestOwnWritesAreSeen, which runs in full",
	"redisstore.TestMoreSessionsThanRedisTracks": "300 sessions are more than Redis tracks there, too",
	"redisstore.TestReconnectBeginsEmpty":        "each of its rounds is a test of its own",
	"redisstore.TestReplicasAreWaitedFor":        "its loop is that of TestOwnWritesAreSeen, which runs in full",
	"shardstore.TestPowerCut":                    "each of its seeds is a test of its own",
}

// A test that does less under the race detector has a name that VOLUME matches, and stands in a package that scripts/test runs VOLUME in.
func TestLessUnderTheRaceDetectorRunsInFull(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("Makefile")
	require.NoError(t, err)
	line := regexp.MustCompile(`(?m)^export VOLUME \?= (.+)$`).FindSubmatch(makefile)
	require.NotNil(t, line)
	volume := regexp.MustCompile(string(line[1]))
	inFull := regexp.MustCompile(`^(\.|server(/.*)?|shardstore|redisstore)$`)
	seen, left := 0, make(map[string]bool)
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, test := range callers(t, path, "quickly", "turns") {
			seen++
			dir := filepath.ToSlash(filepath.Dir(path))
			if name := dir + "." + test; notInFull[name] != "" {
				left[name] = true
				continue
			}
			assert.True(t, strings.HasPrefix(test, "Test") && volume.MatchString(test) && inFull.MatchString(dir),
				"%s: %s does less under the race detector, and make test runs it nowhere else", path, test)
		}
		return nil
	}))
	assert.Greater(t, seen, 20)
	assert.Len(t, left, len(notInFull), "a test that notInFull names is gone, or does not need to stand there")
}

// callers returns the functions in a file that call one of these functions by its bare name.
func callers(t *testing.T, path string, called ...string) (names []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if id, ok := call.Fun.(*ast.Ident); ok && slices.Contains(called, id.Name) && !slices.Contains(names, f.Name.Name) {
					names = append(names, f.Name.Name)
				}
			}
			return true
		})
	}
	return names
}
