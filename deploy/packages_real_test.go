//go:build real

package deploy_test

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testport"
	"github.com/coatcheck/coatcheck/internal/testprogram"
)

// machine is a small Debian without systemd, in a folder of the test's own.
type machine struct {
	*testing.T
	root    string
	address string // the server's
}

// laid is the root folder of a machine: an empty one over a Debian that scripts/install-tools keeps. It goes away when the test ends.
func laid(t *testing.T, debian string) (root string) {
	t.Helper()
	require.Zero(t, os.Geteuid(), "only root can mount a root folder and install packages in it")
	dir := t.TempDir()
	root = filepath.Join(dir, "root")
	for _, name := range []string{"root", "upper", "work"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	base, err := filepath.EvalSymlinks(downloaded(debian))
	require.NoError(t, err)
	require.NoError(t, syscall.Mount("overlay", root, "overlay", 0, "lowerdir="+base+",upperdir="+dir+"/upper,workdir="+dir+"/work"))
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(root, syscall.MNT_DETACH)) })
	return root
}

func boot(t *testing.T) *machine {
	t.Helper()
	m := &machine{T: t, root: laid(t, "debian"), address: testport.Address(t)}
	// The server finds itself there, to start the process that hashes passwords.
	require.NoError(t, syscall.Mount("proc", filepath.Join(m.root, "proc"), "proc", 0, ""))
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(filepath.Join(m.root, "proc"), syscall.MNT_DETACH)) })
	return m
}

// try runs a command on this machine or, with "chroot" and the root folder before it, inside; it returns what the command printed.
func (m *machine) try(input string, args ...string) (output string, err error) {
	cmd := exec.CommandContext(m.Context(), args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin:/usr/bin:/bin", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (m *machine) must(args ...string) (output string) {
	m.Helper()
	out, err := m.try("", args...)
	require.NoError(m, err, "%q: %s", args, out)
	return out
}

// sh runs a line as root would type it inside.
func (m *machine) sh(line string) (output string) {
	m.Helper()
	return m.must("chroot", m.root, "sh", "-ec", line)
}

// as is a command of the server's user inside.
func (m *machine) as(args ...string) []string {
	return append([]string{"chroot", m.root, "setpriv", "--reuid", "coatcheck", "--regid", "coatcheck", "--clear-groups"}, args...)
}

func (m *machine) read(path string) string {
	m.Helper()
	text, err := os.ReadFile(filepath.Join(m.root, path))
	require.NoError(m, err)
	return string(text)
}

// asRoot stands for sudo, which this Debian lacks.
const asRoot = `#!/bin/sh
[ "$1" != -u ] || { user=$2; shift 2; set -- setpriv --reuid "$user" --regid "$user" --clear-groups "$@"; }
exec "$@"
`

// configure runs the lines of README.md between the installation and the start, and gives the server a port that is free here.
func (m *machine) configure() {
	m.Helper()
	text, err := os.ReadFile("../README.md")
	require.NoError(m, err)
	_, block, found := strings.Cut(string(text), "```sh\nsudo dpkg -i ")
	require.True(m, found)
	block, _, _ = strings.Cut(block, "\n```")
	lines := strings.Split(block, "\n")[1:]
	require.Len(m, lines, 5)
	assert.Equal(m, "sudo systemctl enable --now coatcheck", lines[4], "serve stands for it")
	require.NoError(m, testprogram.Write(filepath.Join(m.root, "usr/local/bin/sudo"), []byte(asRoot)))
	for i, line := range lines[:4] {
		if i == 3 { // doctor, which looks at the ports
			m.sh(`printf 'listen = "` + m.address + `"\nadmin-listen = "` + testport.Address(m.T) + `"\n' >>/etc/coatcheck/config.toml`)
		}
		out, err := m.try("correct horse battery staple\n", "chroot", m.root, "sh", "-ec", line)
		require.NoError(m, err, "%s: %s", line, out)
	}
}

// serve starts what the unit starts, as its user; stop ends it as systemd does.
func (m *machine) serve() (stop func()) {
	m.Helper()
	unit := m.read("usr/lib/systemd/system/coatcheck.service")
	assert.NotContains(m, unit, "/usr/local/")
	assert.Contains(m, unit, "\nUser=coatcheck\nGroup=coatcheck\n")
	assert.Contains(m, unit, "\nStateDirectory=coatcheck\n")
	_, command, found := strings.Cut(unit, "\nExecStart=")
	require.True(m, found)
	command, _, _ = strings.Cut(command, "\n")
	assert.Equal(m, "700 coatcheck coatcheck\n", m.sh("stat -c '%a %U %G' /var/lib/coatcheck"))
	_, port, _ := strings.Cut(m.address, ":")
	server := start(m.T, port, m.as(strings.Fields(command)...)...)
	m.must(m.as("env", "COATCHECK_CONFIG=/etc/coatcheck/config.toml", "coatcheck", "healthcheck", "--ready")...)
	return func() {
		m.Helper()
		require.NoError(m, server.Process.Signal(syscall.SIGTERM))
		require.NoError(m, server.Wait())
	}
}

// me asks whose session a cookie shows; login begins one.
func (m *machine) me(cookie string) string {
	m.Helper()
	_, body := m.send(http.MethodGet, "/auth/me", cookie, "") //nolint:bodyclose // read and closed by send
	return body
}

func (m *machine) login() (cookie string) {
	m.Helper()
	resp, body := m.send(http.MethodPost, "/auth/login", "", `{"user_id":"ada","password":"correct horse battery staple"}`) //nolint:bodyclose // read and closed by send
	require.Equal(m, http.StatusOK, resp.StatusCode, body)
	require.NotEmpty(m, resp.Cookies())
	return resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value
}

func (m *machine) send(method, path, cookie, body string) (*http.Response, string) {
	m.Helper()
	req, err := http.NewRequestWithContext(m.Context(), method, "http://"+m.address+path, strings.NewReader(body))
	require.NoError(m, err)
	req.Header.Set("Content-Type", "application/json")
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(m, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(m, err)
	require.NoError(m, resp.Body.Close())
	return resp, string(text)
}

// A package is installed, started, upgraded and removed on a machine that knew nothing of coatcheck: what was edited and the
// sessions stay. There is no systemd, so what the unit says is done by the test; systemd itself verifies the unit in TestSystemdAccepts.
func TestPackages(t *testing.T) {
	for format, how := range map[string]struct {
		install, upgrade, remove func(m *machine, path string) []string
		kept                     string // the edited configuration, after the removal
	}{
		"deb": {
			install: func(m *machine, path string) []string { return []string{"dpkg", "--root=" + m.root, "--install", path} },
			upgrade: func(m *machine, path string) []string {
				return []string{"dpkg", "--root=" + m.root, "--force-confdef", "--force-confold", "--install", path}
			},
			remove: func(m *machine, _ string) []string {
				return []string{"dpkg", "--root=" + m.root, "--remove", "coatcheck"}
			},
			kept: "etc/coatcheck/config.toml",
		},
		// On Debian's files, since a Fedora was not to be had: rpm's own order of scripts and its treatment of configuration files,
		// and no test of what the package depends on.
		"rpm": {
			install: func(m *machine, path string) []string { return m.rpm("--install", "--nodeps", path) },
			upgrade: func(m *machine, path string) []string { return m.rpm("--upgrade", "--nodeps", path) },
			remove:  func(m *machine, _ string) []string { return m.rpm("--erase", "coatcheck") },
			kept:    "etc/coatcheck/config.toml.rpmsave",
		},
	} {
		t.Run(format, func(t *testing.T) {
			m := boot(t)
			out := m.must(how.install(m, packaged(t, "0.0.1", format))...)
			assert.Contains(t, out, "say who may log in", "a new installation says what comes next")
			out, err := m.try("", m.as("coatcheck", "serve", "--config", "/etc/coatcheck/config.toml")...)
			require.Error(t, err)
			assert.Contains(t, out, "login", "as it comes, it lets nobody in")
			m.configure()
			assert.Equal(t, "750 root coatcheck\n640 root coatcheck\n", m.sh("stat -c '%a %U %G' /etc/coatcheck /etc/coatcheck/config.toml"))
			for _, file := range []string{"usr/share/man/man1/coatcheck.1.gz", "usr/share/bash-completion/completions/coatcheck", "usr/share/fish/vendor_completions.d/coatcheck.fish"} {
				assert.FileExists(t, filepath.Join(m.root, file))
			}
			zsh, err := filepath.Glob(m.root + "/usr/share/zsh/*/_coatcheck")
			require.NoError(t, err)
			assert.Len(t, zsh, 1)

			stop := m.serve()
			cookie := m.login()
			assert.Contains(t, m.me(cookie), `"user_id":"ada"`)
			stop()
			edited, users := m.read("etc/coatcheck/config.toml"), m.read("etc/coatcheck/users")

			newer := packaged(t, "0.0.2", format)
			if format == "deb" {
				newer = withOtherSettings(m, newer)
			} else {
				// c: it is a configuration file; n: an edited one is not replaced.
				assert.Contains(t, m.must("rpm", "--query", "--queryformat", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]", "--package", newer), "/etc/coatcheck/config.toml cn\n")
			}
			out = m.must(how.upgrade(m, newer)...)
			assert.NotContains(t, out, "say who may log in")
			assert.Contains(t, m.sh("coatcheck version"), "v0.0.2")
			assert.Equal(t, edited, m.read("etc/coatcheck/config.toml"))
			assert.Equal(t, "640 root coatcheck\n", m.sh("stat -c '%a %U %G' /etc/coatcheck/config.toml"))
			stop = m.serve()
			assert.Contains(t, m.me(cookie), `"user_id":"ada"`, "a session of before the upgrade")
			stop()

			m.must(how.remove(m, "")...)
			assert.NoFileExists(t, filepath.Join(m.root, "usr/bin/coatcheck"))
			assert.NoFileExists(t, filepath.Join(m.root, "usr/lib/systemd/system/coatcheck.service"))
			assert.Equal(t, edited, m.read(how.kept))
			assert.Equal(t, users, m.read("etc/coatcheck/users"))
			m.must(how.install(m, newer)...)
			if format == "rpm" {
				m.sh("mv /etc/coatcheck/config.toml.rpmsave /etc/coatcheck/config.toml && chgrp coatcheck /etc/coatcheck/config.toml")
			}
			stop = m.serve()
			assert.Contains(t, m.me(cookie), `"user_id":"ada"`, "a session of before the removal")
			stop()
			if format == "deb" {
				m.sh("rm /etc/coatcheck/config.toml") // which dpkg heeds: it never brings such a file back
				m.must(how.install(m, newer)...)
				assert.NoFileExists(t, filepath.Join(m.root, "etc/coatcheck/config.toml"))
				assert.Equal(t, "install ok installed", m.must("dpkg-query", "--root="+m.root, "--show", "--showformat=${Status}", "coatcheck"))
			}
		})
	}
}

// rpm is a command of this machine's rpm for the root folder.
func (m *machine) rpm(args ...string) []string {
	return append([]string{"rpm", "--root", m.root, "--dbpath", "/var/lib/rpm"}, args...)
}

// withOtherSettings returns a deb whose own settings differ, which is when dpkg has to choose between those and the edited ones.
func withOtherSettings(m *machine, path string) string {
	m.Helper()
	dir := filepath.Join(m.TempDir(), "deb")
	m.must("dpkg-deb", "--raw-extract", path, dir)
	require.NoError(m, os.WriteFile(filepath.Join(dir, "etc/coatcheck/config.toml"), []byte("# Other settings.\n"), 0o640))
	m.must("dpkg-deb", "--build", "--root-owner-group", "-Znone", dir, path)
	return path
}
