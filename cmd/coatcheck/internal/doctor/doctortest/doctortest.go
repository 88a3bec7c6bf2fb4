// Package doctortest reads in tests what package doctor found.
package doctortest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/doctor"
)

// Diagnosis is what was found.
type Diagnosis struct {
	t     *testing.T
	By    map[string]doctor.Verdict // by the name of the check
	Texts string                    // all that was printed
}

// Of returns the diagnosis that was printed as texts. Each verdict must say something, and each check come once.
func Of(t *testing.T, verdicts []doctor.Verdict, texts string) Diagnosis {
	t.Helper()
	d := Diagnosis{t: t, By: make(map[string]doctor.Verdict), Texts: texts}
	for _, v := range verdicts {
		require.NotContains(t, d.By, v.Check, "said once")
		require.Contains(t, []string{doctor.Fine, doctor.Warning, doctor.Problem}, v.Result)
		require.NotEmpty(t, v.Text)
		d.By[v.Check] = v
	}
	return d
}

// With returns the names of the checks with this result.
func (d Diagnosis) With(result string) (checks []string) {
	for name, v := range d.By {
		if v.Result == result {
			checks = append(checks, name)
		}
	}
	return checks
}

// Says asserts what a check came to.
func (d Diagnosis) Says(check, result, text string) {
	d.t.Helper()
	assert.Equal(d.t, result, d.By[check].Result, "%s: %s", check, d.By[check].Text)
	assert.Contains(d.t, d.By[check].Text, text, check)
}

// File writes a file whose mode the umask does not touch, and returns its path.
func File(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	require.NoError(t, os.Chmod(path, mode))
	return path
}
