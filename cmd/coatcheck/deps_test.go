package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testprogram"
)

// The gate of `make lint` looks at go.mod; this looks at the gate.
func TestDependencyGate(t *testing.T) {
	const fiber, fasthttp = "\tgithub.com/gofiber/fiber/v2 v2.52.15\n", "\tgithub.com/valyala/fasthttp v1.77.0 // indirect\n"
	tests := map[string]struct {
		require, more string
		passes        bool
	}{
		"the least":          {require: fiber + fasthttp, passes: true},
		"newer":              {require: "github.com/gofiber/fiber/v2 v2.100.0\ngithub.com/valyala/fasthttp v1.100.0\n", passes: true},
		"Fiber too old":      {require: "github.com/gofiber/fiber/v2 v2.52.9\n" + fasthttp},
		"fasthttp too old":   {require: fiber + "github.com/valyala/fasthttp v1.76.9\n"},
		"fasthttp by chance": {require: fiber},
		"a fork":             {require: fiber + fasthttp, more: "replace github.com/valyala/fasthttp => example.com/fork v1.80.0\n"},
		"a folder":           {require: fiber + fasthttp, more: "replace (\n\tgithub.com/gofiber/fiber/v2 => ../fiber\n)\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			mod := filepath.Join(t.TempDir(), "go.mod")
			text := "module example.com/m\n\ngo 1.26\n\nrequire (\n" + tt.require + ")\n\n" + tt.more
			require.NoError(t, os.WriteFile(mod, []byte(text), 0o600))
			out, err := exec.CommandContext(t.Context(), "../../scripts/check-deps", mod).CombinedOutput()
			if tt.passes {
				assert.NoError(t, err, "%s", out)
			} else {
				assert.ErrorAs(t, err, new(*exec.ExitError), "%s", out)
				assert.NotEmpty(t, out)
			}
		})
	}
	out, err := exec.CommandContext(t.Context(), "../../scripts/check-deps", "../../go.mod").CombinedOutput()
	assert.NoError(t, err, "%s", out)
}

// The check for known vulnerabilities fails where its database cannot be reached, unless it is told that this is known; a finding and
// anything else that is wrong always fail.
func TestVulnerabilityGate(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		says    string
		status  int
		offline string
		passes  bool
	}{
		"no finding":                       {says: "No vulnerabilities found.", passes: true},
		"a finding":                        {says: "Vulnerability #1", status: 3},
		"a finding, offline":               {says: "Vulnerability #1", status: 3, offline: "ok"},
		"out of reach":                     {says: "govulncheck: fetching vulnerabilities: dial tcp: no such host", status: 1},
		"out of reach, and that is known":  {says: "govulncheck: fetching vulnerabilities: dial tcp: no such host", status: 1, offline: "ok", passes: true},
		"out of reach, and that is denied": {says: "govulncheck: fetching vulnerabilities: dial tcp: no such host", status: 1, offline: "no"},
		"does not build":                   {says: "govulncheck: loading packages", status: 1, offline: "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tool := filepath.Join(t.TempDir(), "govulncheck")
			script := fmt.Sprintf("#!/bin/sh\necho '%s'\nexit %d\n", tt.says, tt.status)
			require.NoError(t, testprogram.Write(tool, []byte(script)))
			cmd := exec.CommandContext(t.Context(), "../../scripts/vulncheck")
			cmd.Env = append(os.Environ(), "GOVULNCHECK="+tool, "VULNCHECK_OFFLINE="+tt.offline)
			out, err := cmd.CombinedOutput()
			if tt.passes {
				assert.NoError(t, err, "%s", out)
			} else {
				assert.ErrorAs(t, err, new(*exec.ExitError), "%s", out)
			}
			if tt.status == 1 && tt.says != "govulncheck: loading packages" {
				assert.Contains(t, string(out), "cannot be reached")
			} else {
				assert.Contains(t, string(out), tt.says)
			}
		})
	}
}

// What only tests import stays out of the program.
func TestNoTestModules(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "github.com/valyala/fasthttp\n")
	for _, module := range []string{"github.com/stretchr/testify", "github.com/getkin/kin-openapi", "github.com/santhosh-tekuri/jsonschema", "github.com/chromedp"} {
		assert.NotContains(t, string(out), module)
	}
}
