package coatcheck_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var goFile = regexp.MustCompile(`[a-z0-9_*]+\.go\b`)

// Where a package comment lists the files of its package, it lists all of them, and none that is gone.
func TestPackageCommentsListFiles(t *testing.T) {
	t.Parallel()
	lists := 0
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "doc.go" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		listed := goFile.FindAllString(string(text), -1)
		if len(listed) < 2 {
			return nil
		}
		lists++
		unlisted := make(map[string]bool)
		files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.go"))
		for _, file := range files {
			if name := filepath.Base(file); name != "doc.go" && !strings.HasSuffix(name, "_test.go") {
				unlisted[name] = true
			}
		}
		for _, pattern := range listed {
			found, _ := filepath.Glob(filepath.Join(filepath.Dir(path), pattern)) // the pattern is one
			assert.NotEmpty(t, found, "%s names %s", path, pattern)
			for _, file := range found {
				delete(unlisted, filepath.Base(file))
			}
		}
		assert.Empty(t, unlisted, path)
		return err
	}))
	assert.Greater(t, lists, 5)
}
