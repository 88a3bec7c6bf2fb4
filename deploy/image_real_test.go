//go:build real

package deploy_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testport"
	"github.com/coatcheck/coatcheck/internal/testprogram"
)

// builder is buildah with its store in a folder of the test's own.
type builder struct {
	*testing.T
	dir string
}

func (b *builder) run(args ...string) (output string) {
	b.Helper()
	global := []string{"--storage-driver", "vfs", "--root", b.dir + "/storage", "--runroot", b.dir + "/run"}
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), "buildah", append(global, args...)...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	require.NoError(b, err, "buildah %q: %s%s", args, out, &errs)
	return strings.TrimSpace(string(out))
}

// image is what an image says of the program in it.
type image struct {
	User                 string
	Env, Entrypoint, Cmd []string
	Healthcheck          struct{ Test []string }
}

// build makes the last stage of the Dockerfile with the program that is built here: the first stage's Go image is in a registry,
// which a test does not ask.
func (b *builder) build() (made image, root string) {
	b.Helper()
	text, err := os.ReadFile("Dockerfile")
	require.NoError(b, err)
	_, stage, found := strings.Cut(string(text), "\nFROM scratch\n")
	require.True(b, found)
	program, err := built()
	require.NoError(b, err)
	from := filepath.Join(b.dir, "build")
	require.NoError(b, os.MkdirAll(from+"/out/root", 0o755))
	require.NoError(b, os.Mkdir(from+"/out/root/data", 0o700))
	require.NoError(b, os.MkdirAll(from+"/etc/ssl/certs", 0o755))
	for path, target := range map[string]string{program: "/out/coatcheck", "/etc/ssl/certs/ca-certificates.crt": "/etc/ssl/certs/ca-certificates.crt"} {
		content, err := os.ReadFile(path)
		require.NoError(b, err)
		require.NoError(b, testprogram.Write(from+target, content))
	}
	file := filepath.Join(b.dir, "Dockerfile")
	require.NoError(b, os.WriteFile(file, []byte("FROM scratch\n"+stage), 0o600))
	b.run("build", "--format", "docker", "--isolation", "chroot", "--build-context", "build="+from, "--file", file, "--tag", "coatcheck", b.dir+"/build")
	var inspected struct{ Docker struct{ Config image } }
	require.NoError(b, json.Unmarshal([]byte(b.run("inspect", "--type", "image", "coatcheck")), &inspected))
	container := b.run("from", "coatcheck")
	root = b.run("mount", container)
	b.Cleanup(func() { b.run("umount", container) })
	return inspected.Docker.Config, root
}

// The image is built without a Docker engine, and run as its user in its own root folder, which nobody can write to: its health check
// passes when the server answers, and fails when it does not.
func TestImage(t *testing.T) {
	require.Zero(t, os.Geteuid(), "only root can mount a root folder and start a program in it")
	b := &builder{T: t, dir: t.TempDir()}
	made, root := b.build()
	assert.Equal(t, "65532:65532", made.User)
	assert.Contains(t, made.Env, "COATCHECK_LISTEN=:3000")
	entries, err := os.ReadDir(root)
	require.NoError(t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	assert.Subset(t, []string{"coatcheck", "data", "etc", "dev", "proc", "sys", "run"}, names, "no shell, no libraries")

	var top syscall.Stat_t
	require.NoError(t, syscall.Stat(root, &top))
	assert.Zero(t, top.Uid, "the root folder is not the server's")
	require.NoError(t, syscall.Mount(root, root, "", syscall.MS_BIND, ""))
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(root, syscall.MNT_DETACH)) })
	require.NoError(t, syscall.Mount("", root, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	// A volume takes its owner and mode from the folder that it covers.
	var folder syscall.Stat_t
	require.NoError(t, syscall.Stat(root+"/data", &folder))
	assert.Equal(t, [3]uint32{65532, 65532, 0o700}, [3]uint32{folder.Uid, folder.Gid, folder.Mode & 0o777})
	require.NoError(t, syscall.Mount("tmpfs", root+"/data", "tmpfs", 0, "uid=65532,gid=65532,mode=700"))
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(root+"/data", syscall.MNT_DETACH)) })

	port := strconv.Itoa(testport.Free(t))
	environ := append(slices.Clone(made.Env), "COATCHECK_LOGIN=open", "COATCHECK_DATA_DIR=/data", "COATCHECK_LISTEN=127.0.0.1:"+port, "COATCHECK_ADMIN_LISTEN="+testport.Address(t))
	inside := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), args[0], args[1:]...)
		cmd.Dir, cmd.Env = "/", environ
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
		return cmd
	}
	require.Equal(t, "CMD", made.Healthcheck.Test[0])
	check := func() error { return inside(made.Healthcheck.Test[1:]...).Run() }
	require.Error(t, check(), "nothing runs")

	server := inside(append(made.Entrypoint, made.Cmd...)...)
	var log strings.Builder
	server.Stdout, server.Stderr = &log, &log
	require.NoError(t, server.Start())
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	stop := func() error { _ = server.Process.Signal(syscall.SIGTERM); return <-ended }
	if !assert.Eventually(t, func() bool { return check() == nil }, patience, patience/100) {
		_ = stop()
		require.Fail(t, "the health check never passed", "%s", &log)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1:"+port+"/auth/login", strings.NewReader(`{"user_id":"ada"}`))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusOK, resp.StatusCode, "%s", body)
	require.NoError(t, stop(), "%s", &log)
	require.Error(t, check(), "it has stopped")
	journal, err := os.ReadDir(root + "/data")
	require.NoError(t, err)
	assert.NotEmpty(t, journal)
}
