package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/internal/testoutput"
	"github.com/coatcheck/coatcheck/internal/testport"
	"github.com/coatcheck/coatcheck/internal/testprogram"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/doctor"
	"github.com/coatcheck/coatcheck/server/login"
)

func deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/" + name)
	require.NoError(t, err)
	return string(text)
}

// The program needs no other file: as nobody, in a root folder that holds it and nothing else, it serves, is healthy, and
// stops. This is all that deploy/Dockerfile's image does; the image itself is built in deploy's TestImage (tag real).
func TestStaticProgramInAnEmptyRoot(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	path := filepath.Join(root, "coatcheck")
	build := exec.CommandContext(t.Context(), "make", "-C", "../..", "-n", "build")
	script, err := build.CombinedOutput()
	require.NoError(t, err, "%s", script)
	require.Contains(t, string(script), "CGO_ENABLED=0 go build -trimpath ", "as shippedProgram is built")
	program, err := os.ReadFile(shippedProgram(t))
	require.NoError(t, err)
	require.NoError(t, testprogram.Write(path, program))

	file, err := elf.Open(path)
	require.NoError(t, err)
	libraries, err := file.ImportedLibraries()
	assert.NoError(t, err)
	assert.Empty(t, libraries)
	for _, p := range file.Progs {
		assert.NotEqual(t, elf.PT_INTERP, p.Type, "it asks for a dynamic linker")
	}
	require.NoError(t, file.Close())

	var stdout, stderr testoutput.Buffer
	server := caged(t, root, "serve", "--dev", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0")
	server.Stdout, server.Stderr = &stdout, &stderr
	require.NoError(t, server.Start())
	t.Cleanup(func() { _ = server.Process.Kill() }) // it has usually ended
	require.Eventually(t, func() bool { return strings.Contains(stdout.String(), "Try it") }, patience, 5*time.Millisecond, "%s", &stderr)
	admin := regexp.MustCompile(`API on http://(\S+)`).FindStringSubmatch(stdout.String())[1]
	health := caged(t, root, "healthcheck", "--ready", "--admin-listen="+admin)
	said, err := health.CombinedOutput()
	assert.NoError(t, err)
	assert.Equal(t, "ready\n", string(said))
	require.NoError(t, server.Process.Signal(syscall.SIGTERM))
	assert.NoError(t, server.Wait(), "%s", &stderr)
}

// caged runs the program as nobody in a root folder: root may do that, others in a user namespace of their own.
func caged(t *testing.T, root string, args ...string) *exec.Cmd {
	t.Helper()
	for dir := root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // nobody must get there
	}
	cmd := exec.CommandContext(context.Background(), "/coatcheck", args...)
	cmd.Path, cmd.Err = "/coatcheck", nil // it is there in the new root
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Credential = nil
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 65532, HostID: os.Getuid(), Size: 1}}
	}
	return cmd
}

// Every path that the image copies from the sources is there, and what it runs is a command of ours.
func TestDockerfile(t *testing.T) {
	text := deployed(t, "Dockerfile")
	last := text[strings.LastIndex(text, "\nFROM "):]
	assert.Contains(t, last, "FROM scratch\n")
	assert.Regexp(t, `\nUSER 65532:65532\n`, last)
	assert.NotContains(t, last, "COATCHECK_ADMIN_LISTEN", "it stays on loopback")
	assert.Contains(t, last, `HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/coatcheck", "healthcheck"]`)
	for _, m := range regexp.MustCompile(`(?m)^COPY ([^-].*) \S+$`).FindAllStringSubmatch(text, -1) {
		for _, path := range strings.Fields(m[1]) {
			_, err := os.Stat("../../" + path)
			assert.NoError(t, err)
		}
	}
	ignored, err := os.ReadFile("../../.dockerignore")
	require.NoError(t, err)
	assert.Contains(t, string(ignored), "deploy/secrets\n")
	for _, m := range regexp.MustCompile(`COATCHECK_[A-Z_]+`).FindAllString(text, -1) {
		assertVariable(t, m)
	}
	build, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	version := regexp.MustCompile(`\ngo (1\.\S+)`).FindSubmatch(build)[1]
	assert.Regexp(t, `\nARG GO_IMAGE=golang:`+regexp.QuoteMeta(string(version))+`-bookworm@sha256:[0-9a-f]{64}\n`, text)
	assert.Equal(t, []string{"$GO_IMAGE", "scratch"}, basesOf(text), "none but the first can be pinned, and needs it")
}

// basesOf returns what the stages of a Dockerfile begin with.
func basesOf(text string) (images []string) {
	for _, m := range regexp.MustCompile(`(?m)^FROM (?:--\S+ )?(\S+)`).FindAllStringSubmatch(text, -1) {
		images = append(images, m[1])
	}
	return images
}

func assertVariable(t *testing.T, name string) {
	t.Helper()
	c, _ := config.Load(nil, []string{name + "=x"}) // its mistakes are others
	assert.Empty(t, c.Notes, "no setting has this variable")
}

type composeFile struct {
	Services map[string]struct {
		Build       struct{ Context, Dockerfile string }
		Command     []string
		Environment map[string]string
		Secrets     []string
		Healthcheck struct{ Test []string }
		MemLimit    string   `yaml:"mem_limit"`
		CapDrop     []string `yaml:"cap_drop"`
		Ports       []string
	}
	Secrets map[string]struct{ File string }
}

// The Redis of deploy/compose.yaml is started as it stands there, and doctor finds nothing wrong with it and with the server's settings.
func TestCompose(t *testing.T) {
	t.Parallel()
	text := deployed(t, "compose.yaml")
	var compose composeFile
	require.NoError(t, yaml.Unmarshal([]byte(text), &compose))
	ours, redis := compose.Services["coatcheck"], compose.Services["redis"]
	assert.FileExists(t, filepath.Join("../../deploy", ours.Build.Context, ours.Build.Dockerfile))
	for _, s := range compose.Services {
		assert.NotEmpty(t, s.MemLimit)
		assert.Equal(t, []string{"ALL"}, s.CapDrop)
		for _, secret := range s.Secrets {
			assert.Equal(t, "secrets/"+secret, compose.Secrets[secret].File)
		}
	}
	for _, port := range ours.Ports {
		assert.Regexp(t, `^127\.0\.0\.1:`, port)
	}
	for name := range ours.Environment {
		assertVariable(t, name)
	}

	// What the comment tells to do first, in a folder of ours; then Redis' own command, with its paths and port put right.
	dir := t.TempDir()
	port := strconv.Itoa(testport.Free(t))
	unescape := strings.NewReplacer("$$", "$", "/run/secrets/", dir+"/secrets/", "dir /data", "dir "+dir+"\nport "+port+"\nbind 127.0.0.1",
		"redis-cli ping", "redis-cli -p "+port+" ping")
	var prepare strings.Builder
	for _, m := range regexp.MustCompile(`(?m)^#   (.*secrets.*)$`).FindAllStringSubmatch(text, -1) {
		prepare.WriteString(m[1] + "\n")
	}
	sh := func(script string) *exec.Cmd {
		cmd := exec.CommandContext(context.Background(), "sh", "-ec", unescape.Replace(script))
		cmd.Dir = dir
		return cmd
	}
	out, err := sh(prepare.String()).CombinedOutput()
	require.NoError(t, err, "%s", out)
	server := sh(redis.Command[2])
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait() // killed
	})
	require.Eventually(t, func() bool { return sh(redis.Healthcheck.Test[1]).Run() == nil }, patience, 20*time.Millisecond, "Redis is healthy")
	list, err := exec.CommandContext(t.Context(), "cat", "/proc/"+strconv.Itoa(server.Process.Pid)+"/cmdline").Output()
	require.NoError(t, err)
	assert.NotContains(t, string(list), "requirepass")

	environ := []string{"COATCHECK_ADMIN_LISTEN=127.0.0.1:1"}
	for name, value := range ours.Environment {
		environ = append(environ, name+"="+strings.Replace(unescape.Replace(value), "//redis:6379", "//127.0.0.1:"+port, 1))
	}
	for _, name := range []string{"login-keys", "redis-password"} {
		require.NoError(t, os.Chmod(filepath.Join(dir, "secrets", name), 0o600))
	}
	code, said, errs := command(t, environ, "doctor", "--json")
	require.Empty(t, errs)
	found := diagnosed(t, code, said)
	assert.Empty(t, found.With(doctor.Problem), said)
	found.Says("redis-persistence", doctor.Fine, "appendfsync")
	assert.Contains(t, redis.Command[2], "appendfsync always", "INFO does not tell")
}

// A stop by the unit has the time that the program takes for one. systemd's own checks of it are in TestSystemdAccepts.
func TestSystemdUnit(t *testing.T) {
	stop := regexp.MustCompile(`TimeoutStopSec=(\d+)`).FindStringSubmatch(deployed(t, "coatcheck.service"))
	require.NotNil(t, stop)
	c, err := config.Load([]string{"--dev"}, nil)
	require.NoError(t, err)
	seconds, err := strconv.Atoi(stop[1])
	require.NoError(t, err)
	assert.Greater(t, time.Duration(seconds)*time.Second, c.Shutdown)
}

// The settings in deploy/kubernetes.yaml are settings, the probes are commands, and no secret comes by an argument.
func TestKubernetes(t *testing.T) {
	type object struct {
		Kind       string
		StringData map[string]string `yaml:"stringData"`
		Spec       struct {
			Replicas int
			Template struct {
				Spec struct {
					TerminationGracePeriodSeconds int            `yaml:"terminationGracePeriodSeconds"`
					SecurityContext               map[string]any `yaml:"securityContext"`
					Containers                    []struct {
						Args            []string
						Env             []struct{ Name, Value string }
						LivenessProbe   struct{ Exec struct{ Command []string } } `yaml:"livenessProbe"`
						ReadinessProbe  struct{ Exec struct{ Command []string } } `yaml:"readinessProbe"`
						SecurityContext map[string]any                            `yaml:"securityContext"`
						Lifecycle       struct {
							PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
						}
					}
				}
			}
		}
	}
	objects := make(map[string]object)
	for decoder := yaml.NewDecoder(strings.NewReader(deployed(t, "kubernetes.yaml"))); ; {
		var o object
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		objects[o.Kind] = o
	}
	for _, kind := range []string{"Secret", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"} {
		require.Contains(t, objects, kind)
	}
	spec := objects["Deployment"].Spec
	assert.Equal(t, 2, spec.Replicas)
	pod := spec.Template.Spec
	container := pod.Containers[0]
	assert.Equal(t, true, pod.SecurityContext["runAsNonRoot"])
	assert.Equal(t, true, container.SecurityContext["readOnlyRootFilesystem"])
	assert.Equal(t, false, container.SecurityContext["allowPrivilegeEscalation"])
	assert.Equal(t, []string{"/coatcheck", "healthcheck"}, container.LivenessProbe.Exec.Command)
	assert.Equal(t, []string{"/coatcheck", "healthcheck", "--ready"}, container.ReadinessProbe.Exec.Command)

	dir := t.TempDir()
	for name, content := range objects["Secret"].StringData {
		content = strings.ReplaceAll(content, "/etc/coatcheck/", dir+"/")
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	var environ []string
	for _, e := range container.Env {
		assertVariable(t, e.Name)
		environ = append(environ, e.Name+"="+strings.ReplaceAll(e.Value, "/etc/coatcheck/", dir+"/"))
	}
	require.Equal(t, "serve", container.Args[0])
	c, err := config.Load(container.Args[1:], environ)
	require.NoError(t, err)
	_, mistakes := credentials.Open(c, login.UsersOptions{})
	for _, setting := range []string{"login-key-file", "admin-key-file", "redis-password-file"} {
		assert.Regexp(t, "--"+setting+" .*placeholder", mistakes.Error(), "the sample as it stands does not start")
	}
	sleeps := container.Lifecycle.PreStop.Sleep.Seconds
	assert.Positive(t, sleeps, "until the cluster has taken the node out")
	assert.Less(t, time.Duration(sleeps)*time.Second+c.Shutdown, time.Duration(pod.TerminationGracePeriodSeconds)*time.Second)
	assert.True(t, !config.Exposed(c.AdminListen) || c.AdminKeyFile != "", "off loopback the admin listener asks for a key")
}

// What releases are built for, CI builds too.
func TestReleases(t *testing.T) {
	text, err := os.ReadFile("../../.goreleaser.yaml")
	require.NoError(t, err)
	var release struct {
		Builds []struct {
			Env, Goos, Goarch []string
			Main              string
		}
		Archives []struct{ Files []string }
		Checksum struct{ Algorithm string }
		Sboms    []struct{ Artifacts string }
	}
	require.NoError(t, yaml.Unmarshal(text, &release))
	require.Len(t, release.Builds, 1)
	assert.Equal(t, []string{"CGO_ENABLED=0"}, release.Builds[0].Env)
	script, err := os.ReadFile("../../scripts/cross")
	require.NoError(t, err)
	var targets bytes.Buffer
	for _, system := range release.Builds[0].Goos {
		for _, arch := range release.Builds[0].Goarch {
			fmt.Fprintf(&targets, " %s/%s", system, arch)
		}
	}
	assert.Contains(t, string(script), "set --"+targets.String()+"\n")
	for _, pattern := range release.Archives[0].Files {
		found, err := filepath.Glob("../../" + pattern)
		require.NoError(t, err)
		assert.NotEmpty(t, found, pattern)
	}
	assert.Equal(t, "sha256", release.Checksum.Algorithm)
	assert.NotEmpty(t, release.Sboms)
}
