//go:build real && linux

package main

import (
	"bytes"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/doctor"
	"github.com/coatcheck/coatcheck/internal/testport"
)

// doctor sees a disk that is small, and one that is full, whether the server runs or not. The disk is a file system in memory, in a
// namespace of the test's own.
func TestDoctorOnAFullDisk(t *testing.T) {
	t.Parallel()
	admin := "127.0.0.1:" + strconv.Itoa(testport.Free(t))
	cmd := exec.CommandContext(t.Context(), "unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "sh", "-uc", `
		mount -t tmpfs -o size=4m,mode=700 tmpfs "$DISK" || exit 9
		doctor() { "$PROGRAM" doctor --json; echo "end of $1: $?"; }
		doctor empty
		"$PROGRAM" serve >"$LOG" 2>&1 & server=$!
		until "$PROGRAM" healthcheck --ready >"$LOG.health" 2>&1; do kill -0 $server || exit 8; sleep 0.1; done
		doctor small
		dd if=/dev/zero of="$DISK/fill" bs=4096 2>"$LOG.dd"
		doctor full
		kill $server; wait $server
		doctor full
		rm "$DISK/fill"
		ls -A "$DISK"`)
	dir := t.TempDir()
	cmd.Env = append(environment(), "PROGRAM="+program(t), "DISK="+dir, "LOG="+t.TempDir()+"/log", "COATCHECK_DEV=true", "COATCHECK_DATA_DIR="+dir,
		"COATCHECK_LISTEN=127.0.0.1:"+strconv.Itoa(testport.Free(t)), "COATCHECK_ADMIN_LISTEN="+admin)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	require.NoError(t, err, "%s%s(it needs a user namespace of its own, which some containers refuse)", out, &complaints)
	rest := string(out)
	for _, want := range []struct{ when, result, text string }{
		{"empty", doctor.Warning, "may need 256 and more"},
		{"small", doctor.Warning, "may need 256 and more"},
		{"full", doctor.Problem, "no space left on device"},
		{"full", doctor.Problem, "no space left on device"},
	} {
		said, after, found := strings.Cut(rest, "end of "+want.when+": ")
		require.True(t, found, rest)
		code, left, _ := strings.Cut(after, "\n")
		n, err := strconv.Atoi(code)
		require.NoError(t, err)
		diagnosed(t, n, said).Says("data-dir", want.result, want.text)
		rest = left
	}
	assert.NotContains(t, rest, "coatcheck-doctor", "doctor leaves nothing")
}
