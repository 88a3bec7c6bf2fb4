//go:build real

package deploy_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// packaged makes the packages of a version, and returns the path of the one in this format.
func packaged(t *testing.T, version, format string) string {
	t.Helper()
	return packagedFor(t, "amd64", version, format)
}

func packagedFor(t *testing.T, arch, version, format string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "../scripts/package", version, arch, format)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	name := map[string]string{
		"deb amd64": "coatcheck_" + version + "_amd64.deb", "rpm amd64": "coatcheck-" + version + "-1.x86_64.rpm",
		"deb arm64": "coatcheck_" + version + "_arm64.deb", "rpm arm64": "coatcheck-" + version + "-1.aarch64.rpm",
	}[format+" "+arch]
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.Rename(filepath.Join("../bin/package", name), path))
	return path
}

func output(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	require.NoError(t, err, "%q: %s", args, &errs)
	return out
}

// fileIn returns what a package's archive holds under a path.
func fileIn(t *testing.T, archive io.Reader, path string) []byte {
	t.Helper()
	for files := tar.NewReader(archive); ; {
		header, err := files.Next()
		require.NoError(t, err, "%s is not there", path)
		if filepath.Join("/", header.Name) == path {
			content, err := io.ReadAll(files)
			require.NoError(t, err)
			return content
		}
	}
}

// The packages for arm64 say that they are, and hold a program for it, with completions that this machine's program printed. They are
// installed on no machine here.
func TestPackagesForArm64(t *testing.T) {
	deb, rpm := packagedFor(t, "arm64", "0.0.1", "deb"), packagedFor(t, "arm64", "0.0.1", "rpm")
	assert.Equal(t, "arm64\n", string(output(t, "dpkg-deb", "--field", deb, "Architecture")))
	assert.Equal(t, "aarch64 linux", string(output(t, "rpm", "--query", "--queryformat", "%{ARCH} %{OS}", "--package", rpm)))
	output(t, "rpm2archive", rpm)
	file, err := os.Open(rpm + ".tgz")
	require.NoError(t, err)
	defer file.Close() //nolint:errcheck // nothing was written
	packed, err := gzip.NewReader(file)
	require.NoError(t, err)
	for name, archive := range map[string]io.Reader{"deb": bytes.NewReader(output(t, "dpkg-deb", "--fsys-tarfile", deb)), "rpm": packed} {
		text, err := io.ReadAll(archive)
		require.NoError(t, err)
		program, err := elf.NewFile(bytes.NewReader(fileIn(t, bytes.NewReader(text), "/usr/bin/coatcheck")))
		require.NoError(t, err, name)
		assert.Equal(t, elf.EM_AARCH64, program.Machine, name)
		assert.Contains(t, string(fileIn(t, bytes.NewReader(text), "/usr/share/bash-completion/completions/coatcheck")), "revoke", name)
	}
}

// The same commit makes the same packages, byte by byte, whenever they are made.
func TestPackagesReproducible(t *testing.T) {
	committed := output(t, "git", "log", "-1", "--format=%ct")
	for _, format := range []string{"deb", "rpm"} {
		first, second := packaged(t, "0.0.1", format), packaged(t, "0.0.1", format)
		if format == "rpm" {
			fields := "%{BUILDTIME}\n%{BUILDHOST}\n[%{FILEMTIMES}\n]"
			lines := strings.Fields(string(output(t, "rpm", "--query", "--queryformat", fields, "--package", first)))
			assert.Equal(t, "localhost", lines[1])
			assert.Equal(t, []string{strings.TrimSpace(string(committed))}, slices.Compact(slices.Delete(lines, 1, 2)))
		}
		one, err := os.ReadFile(first)
		require.NoError(t, err)
		other, err := os.ReadFile(second)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(one, other), format)
	}
}

// A call that would make nothing, or stop halfway, says how to call it before it builds anything.
func TestPackageUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"0.0.1"}, {"0.0.1", "amd64"}, {"0.0.1", "amd64", "deb", "apk"}} {
		var exit *exec.ExitError
		out, err := exec.CommandContext(t.Context(), "../scripts/package", args...).CombinedOutput()
		require.ErrorAs(t, err, &exit, "%q", args)
		assert.Equal(t, 2, exit.ExitCode(), "%q", args)
		assert.Contains(t, string(out), "Usage: package VERSION ARCH FORMAT...", "%q", args)
	}
}

// goreleaser accepts the configuration of releases, in a repository whose remote is where releases go.
func TestGoreleaserAccepts(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("../.goreleaser.yaml")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".goreleaser.yaml"), text, 0o600))
	for _, args := range [][]string{
		{"git", "init", "--quiet"},
		{"git", "remote", "add", "origin", "https://github.com/coatcheck/coatcheck.git"},
		{downloaded("goreleaser"), "check"},
	} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%q: %s", args, out)
	}
}
