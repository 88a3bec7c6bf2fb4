package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testprogram"
)

// sh runs lines of bash in a folder, and returns what they print.
func sh(t *testing.T, dir, lines string, args ...string) (output string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", append([]string{"-euo", "pipefail", "-c", lines, "bash"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func script(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs("../../scripts/" + name)
	require.NoError(t, err)
	return path
}

// The clone that docs-check reads has what is changed here and not committed yet.
func TestCloneWithChanges(t *testing.T) {
	dir := t.TempDir()
	out, err := sh(t, dir, `
		export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
		git init -q work && cd work
		git config user.email a@example.com && git config user.name a
		mkdir docs
		for f in same staged unstaged deleted staged-deleted renamed 'docs/a name' file; do echo old >"$f"; done
		mkdir folder && echo old >folder/old && ln -s same link && echo ignored >.gitignore
		git add . && git commit -q -m x
		echo new >staged && echo new >docs/added && chmod +x staged && git add staged docs/added
		echo new >unstaged && echo new >'docs/a name' && echo new >docs/other && echo new >ignored
		rm deleted && git rm -q staged-deleted && git mv renamed docs/renamed
		echo new >both && git add both && echo newer >both
		rm file && mkdir file && echo new >file/new && rm -r folder && echo new >folder && ln -sf staged link
		cd docs
		"$1" "$2/clone"
		cd "$2/clone"
		find . -name .git -prune -o -type f -printf '%P ' -exec cat {} \; -o -type l -printf '%P -> %l\n' | sort
		[ -x staged ] && [ ! -x same ]`, script(t, "clone-with-changes"), dir)
	require.NoError(t, err, out)
	assert.Equal(t, strings.Split(".gitignore ignored,both newer,docs/a name new,docs/added new,docs/other new,docs/renamed old,file/new new,"+
		"folder new,link -> staged,same old,staged new,unstaged new", ","), strings.Split(strings.TrimSpace(out), "\n"))
}

// standIns puts programs in the place of those that need root, and returns a PATH that has them first.
func standIns(t *testing.T, programs map[string]string) (path string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range programs {
		require.NoError(t, testprogram.Write(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n")))
	}
	return dir + ":" + os.Getenv("PATH")
}

// Who is not root finds in the network of its own the caches of Go, which sudo does not hand on, and gets no rights by a command.
func TestOwnNetworkOfAUser(t *testing.T) {
	dir := t.TempDir()
	programs := map[string]string{
		"id":      "echo 1234",
		"sudo":    `exec env -i "PATH=$PATH" HOME=/nowhere "$@"`,
		"unshare": `[ "$1" = --net ] && shift && exec "$@"`,
		"ip":      `[ "$*" = "link set lo up" ]`,
		"setpriv": `printf 'setpriv'; while [ "$1" != env ]; do printf ' %s' "$1"; shift; done; echo; exec "$@"`,
	}
	for name, value := range map[string]string{
		"PATH": standIns(t, programs), "GOCACHE": dir + "/cache", "GOMODCACHE": dir + "/modules", "GOFLAGS": "-mod=mod -trimpath",
		"GOTOOLCHAIN": "local", "XDG_CACHE_HOME": dir + "/xdg", "XDG_CONFIG_HOME": "", "HOME": dir + "/a home",
	} {
		t.Setenv(name, value)
	}
	out, err := sh(t, dir, `"$1" sh -c 'env; echo "said $*"' sh 'a b' c`, script(t, "own-network"))
	require.NoError(t, err, out)
	assert.Contains(t, out, "setpriv --no-new-privs --reuid 1234 --regid 1234 --clear-groups\n")
	for _, line := range []string{
		"HOME=" + dir + "/a home", "GOCACHE=" + dir + "/cache", "GOMODCACHE=" + dir + "/modules", "GOFLAGS=-mod=mod -trimpath", "GOTOOLCHAIN=local",
		"XDG_CACHE_HOME=" + dir + "/xdg", "PATH=" + os.Getenv("PATH"), "said a b c",
	} {
		assert.Contains(t, "\n"+out, "\n"+line+"\n")
	}
	assert.NotContains(t, out, "XDG_CONFIG_HOME")
}

// Where no network can be made, docs-check says what is needed before it builds anything.
func TestNoOwnNetwork(t *testing.T) {
	for name, programs := range map[string]map[string]string{
		"not permitted": {"id": "echo 0", "unshare": "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1", "go": "echo built"},
		"no sudo":       {"id": "echo 1234", "sudo": "echo 'sudo: Operation not permitted' >&2; exit 1", "go": "echo built"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", standIns(t, programs))
			out, err := sh(t, t.TempDir(), `"$1"`, script(t, "docs-check"))
			require.Error(t, err)
			assert.Contains(t, out, "Operation not permitted\nThat takes root, or somebody who may use sudo; in a container")
			assert.NotContains(t, out, "built")
		})
	}
}
