//go:build real

package deploy_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// computer is a small Debian that systemd runs, with a network of its own, which nothing leaves.
type computer struct {
	*testing.T
	root string
	pid  string // of systemd, here
}

// scriptPatience is how long a script may take, of which the longest install packages.
const scriptPatience = 10 * time.Minute

// turnOn starts a computer, and turns it off when the test ends.
func turnOn(t *testing.T) *computer {
	t.Helper()
	c := &computer{T: t, root: laid(t, "debian-systemd")}
	group := ownGroup(t)
	var said strings.Builder
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "testdata/boot", c.root, group)
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		log, _ := exec.CommandContext(context.Background(), "nsenter", "--target", c.pid, "--all", "journalctl", "--no-pager", "--lines", "60").CombinedOutput()
		_ = cmd.Process.Kill() // and with it all that runs there
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("systemd: %s\n%s", &said, log)
		}
	})
	children := fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid)
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(children)
		c.pid = strings.TrimSpace(string(text))
		if err != nil || c.pid == "" {
			return false
		}
		name, err := os.ReadFile("/proc/" + c.pid + "/comm")
		return err == nil && string(name) == "systemd\n"
	}, patience, patience/1000, "systemd is process 1")
	require.Eventually(t, func() bool {
		out, _ := c.as("root", "systemctl is-system-running", "")
		return out == "running\n"
	}, 4*patience, patience/100)
	return c
}

// ownGroup makes a control group of version 2, which is removed with those that systemd makes in it.
func ownGroup(t *testing.T) (dir string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	mounted := regexp.MustCompile(`(?m)^\S+ (\S+) cgroup2 `).FindSubmatch(mounts)
	require.NotNil(t, mounted, "control groups of version 2 are mounted nowhere")
	dir, err = os.MkdirTemp(string(mounted[1]), "coatcheck-test-")
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.Eventually(t, func() bool { // the kernel may still be ending what ran there
			var dirs []string
			_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
			for _, d := range slices.Backward(dirs) {
				_ = os.Remove(d)
			}
			_, err := os.Stat(dir)
			return os.IsNotExist(err)
		}, patience, patience/100)
	})
	return dir
}

// as runs a script for somebody who has just logged in at the computer; it returns what the script printed.
// A script that never ends fails with what it has printed.
func (c *computer) as(user, script, typed string) (output string, err error) {
	ctx, cancel := context.WithTimeout(c.Context(), scriptPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "--target", c.pid, "--all", "runuser", "--login", user, "--command", script)
	cmd.Stdin = strings.NewReader(typed)
	cmd.WaitDelay = patience // what the script has started may hold the output open
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", err, ctx.Err())
	}
	return string(out), err
}

func (c *computer) must(script string) (output string) {
	c.Helper()
	out, err := c.as("admin", script, "")
	require.NoError(c, err, "%s\n%s", script, out)
	return out
}

// bring puts a package into the folder of the person who follows the page, in place of the one before.
func (c *computer) bring(pkg string) {
	c.Helper()
	c.must("rm -f *.deb")
	text, err := os.ReadFile(pkg)
	require.NoError(c, err)
	require.NoError(c, os.WriteFile(filepath.Join(c.root, "home/admin", filepath.Base(pkg)), text, 0o644))
}

const password = "correct horse battery staple"

// block is what a page says to type; of a console it says what is answered, too.
type block struct{ kind, text string }

func blocksOf(t *testing.T, page string) (blocks []block) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("(?ms)^```(sh|console)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, block{m[1], m[2]})
	}
	return blocks
}

var (
	sessionID = regexp.MustCompile(`"session_id":"[\w-]{22}"`)
	function  = regexp.MustCompile(`(?m)^\$ (\w+\(\) \{.*\})$`)
)

// converse types what stands behind each "$ ", after the functions of blocks before, and compares all that is on the screen then.
func (c *computer) converse(prelude, text string) {
	c.Helper()
	script := prelude
	for line := range strings.Lines(text) {
		if typed, ok := strings.CutPrefix(line, "$ "); ok {
			typed = strings.TrimSuffix(typed, "\n")
			script += "\ncat <<'LINE'\n$ " + typed + "\nLINE\n" + typed
		}
	}
	plain := func(s string) string { return sessionID.ReplaceAllString(s, `"session_id":"…"`) }
	assert.Equal(c, plain(text), plain(c.must(script)))
}

// A new machine becomes a server behind nginx with a users file by docs/install.md: what the page says is typed there, line by line, as
// somebody who may use sudo. Nothing is put in the place of anything; the test adds the package, at the beginning and at the upgrade, and the
// password where the page says that it is asked for.
func TestInstallPage(t *testing.T) {
	c := turnOn(t)
	c.bring(packaged(t, "0.0.1", "deb"))
	functions, installed := "", false
	for _, b := range blocksOf(t, "../docs/install.md") {
		if b.kind == "console" {
			c.converse(functions, b.text)
			for _, m := range function.FindAllStringSubmatch(b.text, -1) {
				functions += m[1] + "\n"
			}
			continue
		}
		typed := ""
		if strings.Contains(b.text, "hash-password") {
			typed = password + "\n"
		}
		if strings.Contains(b.text, "dpkg -i") {
			assert.NotContains(t, b.text, "dpkg -r", "a person who pastes the block to upgrade would have no server")
			if installed {
				c.bring(packaged(t, "0.0.2", "deb"))
			}
			installed = true
		}
		out, err := c.as("admin", "set -euo pipefail\n"+b.text, typed)
		require.NoError(t, err, "%s\n%s", b.text, out)
	}
	require.True(t, installed)
	assert.NoFileExists(t, filepath.Join(c.root, "usr/bin/coatcheck"))
	assert.Equal(t, "inactive\n", c.must("systemctl is-active coatcheck || true"), "removed")
	assert.FileExists(t, filepath.Join(c.root, "etc/coatcheck/users"))
}

// The scripts in the packages ask systemd for what they should: a newer version restarts a server that runs, and no other; a removal
// stops it. What the unit forbids the server it does not need: it serves, takes a HUP, and keeps its sessions.
func TestPackageAndSystemd(t *testing.T) {
	c := turnOn(t)
	c.bring(packaged(t, "0.0.1", "deb"))
	c.must("sudo dpkg -i *.deb")
	assert.Equal(t, "inactive disabled\n", c.must("echo $(systemctl is-active coatcheck) $(systemctl is-enabled coatcheck)"), "who may log in has no default")
	c.must(`printf 'login = "open"\n' | sudo tee -a /etc/coatcheck/config.toml`)
	c.must("sudo systemctl enable --now coatcheck")
	main := func() string { return c.must("systemctl show --property MainPID --property ActiveState coatcheck") }
	first := main()
	assert.Contains(t, first, "ActiveState=active")
	c.must("sudo systemctl reload coatcheck")
	for end := time.Now().Add(patience); main() != first && time.Now().Before(end); { // systemd may still say that it reloads
		time.Sleep(100 * time.Millisecond)
	}
	assert.Equal(t, first, main(), "the same process after a reload")
	c.must("sudo apt-get install -y -q curl")
	const curl = "curl -sS --fail -b jar -c jar -H 'Content-Type: application/json' http://127.0.0.1:3000/auth/"
	c.must(curl + `login -d '{"user_id":"ada"}'`)

	c.bring(packaged(t, "0.0.2", "deb"))
	c.must("sudo dpkg -i *.deb")
	second := main()
	assert.Contains(t, second, "ActiveState=active")
	assert.NotEqual(t, first, second, "another process after an upgrade")
	assert.Contains(t, c.must(curl+"me"), `"user_id":"ada"`)
	c.must("sudo systemctl stop coatcheck")
	c.must("sudo dpkg -i *.deb")
	assert.Equal(t, "inactive\n", c.must("systemctl is-active coatcheck || true"), "a server that was stopped stays so")

	c.must("sudo systemctl start coatcheck")
	c.must("sudo dpkg -r coatcheck")
	assert.Equal(t, "inactive\n", c.must("systemctl is-active coatcheck || true"))
}

// The unit does not let the server give a Unix socket to a proxy's group. systemd can, by the lines of docs/operations.md: the group
// reaches the server where the proxies' samples look for it, and nobody else does.
func TestSocketUnit(t *testing.T) {
	c := turnOn(t)
	c.bring(packaged(t, "0.0.1", "deb"))
	c.must("sudo dpkg -i *.deb && sudo apt-get install -y -q curl")
	page, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	lines := regexp.MustCompile("(?s)```ini\n(# (/etc/systemd/system/coatcheck\\.socket)\n.*?)```\n\n```sh\n(.*?)```").FindSubmatch(page)
	require.NotNil(t, lines)
	c.must(`printf 'login = "open"\ntrusted-proxies = "127.0.0.1"\nlisten = "unix:/run/coatcheck/coatcheck.sock?owner=:www-data"\n' |
		sudo tee -a /etc/coatcheck/config.toml`)
	out, err := c.as("admin", "sudo systemctl start coatcheck", "")
	require.Error(t, err, "%s", out)
	c.must("sudo sed -i '/^listen/d' /etc/coatcheck/config.toml")

	require.NoError(t, os.WriteFile(filepath.Join(c.root, string(lines[2])), lines[1], 0o644))
	for line := range strings.Lines(string(lines[3])) {
		c.must("sudo " + line)
	}
	const curl = "curl -sS --unix-socket /run/coatcheck/coatcheck.sock http://localhost/auth/me"
	assert.Contains(t, c.must("sudo -u www-data "+curl), `"authenticated":false`)
	assert.Equal(t, "660 root www-data\n", c.must("stat -c '%a %U %G' /run/coatcheck/coatcheck.sock"))
	c.must("sudo systemctl restart coatcheck")
	assert.Contains(t, c.must("sudo -u www-data "+curl), `"authenticated":false`)
	_, err = c.as("admin", curl, "")
	require.Error(t, err)
}

// The lines at the top of coatcheck.service lead from the program to a server that runs, with nothing for doctor to find.
func TestUnitByHand(t *testing.T) {
	c := turnOn(t)
	program, err := built()
	require.NoError(t, err)
	unit, err := os.ReadFile("coatcheck.service")
	require.NoError(t, err)
	text, err := os.ReadFile(program)
	require.NoError(t, err)
	settings := []byte("login = \"open\"\ndata-dir = \"/var/lib/coatcheck\"\n")
	for name, content := range map[string][]byte{"coatcheck": text, "coatcheck.service": unit, "coatcheck.toml": settings} {
		require.NoError(t, os.WriteFile(filepath.Join(c.root, "root", name), content, 0o644))
	}
	lines := regexp.MustCompile(`(?m)^#   (.*)$`).FindAllSubmatch(unit, -1)
	require.NotEmpty(t, lines)
	for _, line := range lines {
		out, err := c.as("root", string(line[1]), "")
		require.NoError(t, err, "%s\n%s", line[1], out)
	}
	assert.Equal(t, "active\n", c.must("systemctl is-active coatcheck"))
}
