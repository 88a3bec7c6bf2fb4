package config

import (
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseUnixSocket(t *testing.T) {
	s, ok, err := ParseUnixSocket("unix:/run/x.sock?mode=0600&owner=a:b")
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, UnixSocket{Path: "/run/x.sock", Mode: 0o600, User: "a", Group: "b"}, s)
	s, _, err = ParseUnixSocket("unix:/run/x.sock?owner=:b")
	require.NoError(t, err)
	assert.Equal(t, UnixSocket{Path: "/run/x.sock", Mode: fs.FileMode(0o660), Group: "b"}, s)
	for _, text := range []string{
		"unix:", "unix:x.sock", "unix:/", "unix:/run/../x", "unix:/x/", "unix:/x?mode=", "unix:/x?mode=0999", "unix:/x?mode=01777", "unix:/x?mode=0600&mode=0600",
		"unix:/x?user=a", "unix:/x?%zz", "unix:///x",
	} {
		_, ok, err := ParseUnixSocket(text)
		assert.True(t, ok)
		require.Error(t, err, text)
	}
	longest := "unix:/" + strings.Repeat("a", maxSocketPath-1)
	_, _, err = ParseUnixSocket(longest + "?mode=0600")
	require.NoError(t, err)
	_, _, err = ParseUnixSocket(longest + "a?mode=0600")
	require.EqualError(t, err, fmt.Sprintf("the path has %d bytes, and that of a socket has %d at most", maxSocketPath+1, maxSocketPath))
	_, ok, err = ParseUnixSocket("127.0.0.1:3000")
	require.NoError(t, err)
	assert.False(t, ok)
}

// The system has the last word on the longest path.
func TestLongestSocketPath(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "") // t.TempDir may be too long itself
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	path := dir + "/" + strings.Repeat("a", maxSocketPath-len(dir)-1)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	_, err = new(net.ListenConfig).Listen(t.Context(), "unix", path+"a")
	require.ErrorIs(t, err, syscall.EINVAL)
}

// A Unix socket counts as loopback, and a program that connects to it is a trusted proxy.
func TestUnixSocketIsLocal(t *testing.T) {
	c, err := Load([]string{"--login=open", "--listen=unix:/run/a.sock", "--admin-listen=unix:/run/b.sock"}, nil)
	require.NoError(t, err)
	assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, c.Server.TrustedProxies)
	_, err = Load([]string{"--login=open", "--listen=unix:/run/a.sock", "--admin-listen=unix:/run/a.sock?mode=0600"}, nil)
	require.ErrorContains(t, err, "the same address", "whoever may connect")
}

// An owner that the system does not know is a mistake, as others are, for those who start a server. A health check may run where nobody knows
// the owner.
func TestUnixSocketsOwner(t *testing.T) {
	args := []string{"--login=open", "--ttl=x", "--listen=unix:/run/a.sock?owner=nobody-of-that-name", "--admin-listen=unix:/run/b.sock?owner=:no-such-group"}
	_, err := Load(args, nil)
	var told []string
	for _, e := range Leaves(err) {
		told = append(told, e.Error())
	}
	assert.Equal(t, []string{
		`--ttl "x": not a duration such as 500ms, 30m or 12h (command line)`,
		`--listen "unix:/run/a.sock?…": user: unknown user nobody-of-that-name (command line)`,
		`--admin-listen "unix:/run/b.sock?…": group: unknown group no-such-group (command line)`,
	}, told)
	_, _, err = LoadOnly([]string{"admin-listen"}, args, nil)
	require.NoError(t, err)
}
