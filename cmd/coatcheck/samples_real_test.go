//go:build real

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// The unit passes systemd's own checks.
func TestSystemdAccepts(t *testing.T) {
	t.Parallel()
	unit := filepath.Join(t.TempDir(), "coatcheck.service")
	// The program is where the unit says only after an installation.
	text := strings.Replace(deployed(t, "coatcheck.service"), "/usr/local/bin/coatcheck serve", "/bin/true serve", 1)
	require.NoError(t, os.WriteFile(unit, []byte(text), 0o600))
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", unit).CombinedOutput()
	assert.NoError(t, err, "%s", out)
	assert.NotContains(t, string(out), "coatcheck.service:", "no complaint")
	out, err = exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", unit).CombinedOutput()
	require.NoError(t, err, "exposed more than 1.5 of 10:\n%s", out)
	assert.Contains(t, string(out), "Overall exposure level")
}

// Prometheus reads the alerts and the dashboard's expressions.
func TestPrometheusAccepts(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", alertRules)
	promtool(t, "check", "rules", asRules(t, panels(t)))
}

// asRules writes a file of rules with these expressions, the only way in which promtool reads one.
func asRules(t *testing.T, expressions []string) string {
	t.Helper()
	var rules []map[string]string
	for i, expr := range expressions {
		rules = append(rules, map[string]string{"record": "panel:" + strconv.Itoa(i), "expr": expr})
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "panels", "rules": rules}}})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "panels.yml")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	return file
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}
