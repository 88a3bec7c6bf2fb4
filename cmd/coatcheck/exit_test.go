package main

import (
	"bytes"
	"errors"
	"net"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestExitCodes(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, taken.Close()) })
	tests := map[string]struct {
		args           []string
		env            []string
		code           int
		stdout, stderr string // contained; empty: nothing is written
	}{
		"no command":         {code: 2, stderr: "Usage:"},
		"help":               {args: []string{"--help"}, stdout: "Usage:"},
		"help as a command":  {args: []string{"help"}, stdout: "Usage:"},
		"version":            {args: []string{"version"}, stdout: "coatcheck v1.2.3-test " + runtime.Version()},
		"an unknown shell":   {args: []string{"completion", "tcsh"}, code: 2, stderr: `completion: the shell "tcsh" is not known`},
		"version and a word": {args: []string{"version", "x"}, code: 2, stderr: `version: takes no arguments, and got ["x"]`},
		"man and a word":     {args: []string{"man", "x", "y"}, code: 2, stderr: `man: takes no arguments, and got ["x" "y"]`},
		"unknown command":    {args: []string{"server"}, code: 2, stderr: `"server" is no command`},
		"help of serve":      {args: []string{"serve", "--help"}, stdout: "--max-sessions-per-user number"},
		"unknown flag":       {args: []string{"serve", "--dev", "--port=1"}, code: 2, stderr: "--port: no such flag"},
		"no configuration":   {args: []string{"serve"}, code: 2, stderr: "--login: must be named"},
		"mistakes": {
			args: []string{"serve", "--dev", "--ttl=x"}, env: []string{"COATCHECK_IDLE_TIMEOUT=y"}, code: 2,
			stderr: "coatcheck: the configuration has mistakes:\n" +
				"  --ttl \"x\": not a duration such as 500ms, 30m or 12h (command line)\n" +
				"  --idle-timeout \"y\": not a duration such as 500ms, 30m or 12h (COATCHECK_IDLE_TIMEOUT)\n" +
				"\"coatcheck serve --help\" lists the flags.\n",
		},
		"a secret": {
			args: []string{"serve", "--dev"}, env: []string{"COATCHECK_STORE=redis://:s3cret@localhost?skip_verify=1"}, code: 2,
			stderr: "--store: redisstore: URL: skip_verify is not offered",
		},
		"two servers in one": {
			args: []string{"serve", "--dev"}, env: []string{"COATCHECK_STORE=redis://:s3cret@localhost:1,localhost:2"}, code: 2,
			stderr: "--store: redisstore: URL: behind // stands one server",
		},
		"a path too long for a socket": {
			args: []string{"serve", "--dev", "--listen=unix:/run/" + strings.Repeat("a", 120)}, code: 2,
			stderr: "the path has 125 bytes, and that of a socket has ",
		},
		"address in use": {
			args: []string{"serve", "--dev", "--listen", taken.Addr().String()}, code: 1, stderr: "coatcheck: --listen: ",
		},
		"admin address in use": {
			args: []string{"serve", "--dev", "--listen=127.0.0.1:0", "--admin-listen", taken.Addr().String()}, code: 1,
			stderr: `coatcheck: --admin-listen (it may be "off"): `,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			cmd := exec.CommandContext(t.Context(), program(t), tt.args...)
			cmd.Env, cmd.Stdout, cmd.Stderr = environment(tt.env...), &stdout, &stderr
			err := cmd.Run()
			if exit := new(exec.ExitError); !errors.As(err, &exit) {
				require.NoError(t, err)
			}
			assert.Equal(t, tt.code, cmd.ProcessState.ExitCode())
			contains(t, stdout.String(), tt.stdout)
			contains(t, stderr.String(), tt.stderr)
			assert.NotContains(t, stderr.String(), "s3cret")
		})
	}
}

func contains(t *testing.T, got, want string) {
	t.Helper()
	if want == "" {
		assert.Empty(t, got)
	}
	assert.Contains(t, got, want)
}

func TestBuildVersion(t *testing.T) {
	vcs := []debug.BuildSetting{{Key: "vcs.revision", Value: strings.Repeat("ab", 20)}, {Key: "vcs.modified", Value: "true"}}
	tests := map[string]struct {
		linked string
		info   debug.BuildInfo
		want   string
	}{
		"linker":           {linked: "v1.0.0", info: debug.BuildInfo{Main: debug.Module{Version: "v0.9.0"}}, want: "v1.0.0"},
		"module":           {info: debug.BuildInfo{Main: debug.Module{Version: "v0.9.0"}, Settings: vcs}, want: "v0.9.0"},
		"commit":           {info: debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs}, want: "abababababab-dirty"},
		"clean commit":     {info: debug.BuildInfo{Settings: vcs[:1]}, want: "abababababab"},
		"without buildvcs": {info: debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, want: "unknown"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tt.want, buildVersion(tt.linked, &tt.info)) })
	}
}
