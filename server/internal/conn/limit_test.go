package conn

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// relabelled is a listener whose connections have the remote addresses of a list.
type relabelled struct {
	net.Listener
	from []string
}

func (r *relabelled) Accept() (net.Conn, error) {
	conn, err := r.Listener.Accept()
	if err != nil {
		return nil, err
	}
	addr := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(r.from[0]), 40000))
	r.from = r.from[1:]
	return relabelledConn{conn, addr}, nil
}

type relabelledConn struct {
	net.Conn
	addr net.Addr
}

func (c relabelledConn) RemoteAddr() net.Addr { return c.addr }

// A client is an IPv4 address or the /64 of an IPv6 address: a network of that size is what one subscriber gets.
func TestConnLimitIsPerClient(t *testing.T) {
	ln := listenLocal(t)
	r := &relabelled{Listener: ln}
	s := newServer(Options{MaxPerClient: 2, Refusal: func() []byte { return []byte("refused") }})
	l := newListener(s, r, nil)
	var want []string
	clients := map[string]net.Conn{}
	for _, tt := range []struct {
		from     string
		admitted bool
	}{
		{"2001:db8::1", true},
		{"2001:db8::2", true},
		{"2001:db8::ffff:ffff:ffff:ffff", false},
		{"2001:db8::1", false},
		{"2001:db8:0:1::1", true},
		{"192.0.2.1", true},
		{"::ffff:192.0.2.1", true},
		{"192.0.2.1", false},
		{"192.0.2.2", true},
	} {
		r.from = append(r.from, tt.from)
		clients[tt.from] = connect(t, ln)
		if tt.admitted {
			want = append(want, netip.MustParseAddr(tt.from).Unmap().String())
		}
	}
	var got []string
	var conns []net.Conn
	for range want {
		conn, err := l.Accept()
		require.NoError(t, err)
		conns = append(conns, conn)
		got = append(got, tracked(conn).remote.String())
	}
	require.Equal(t, want, got)
	assert.Equal(t, "refused", readToEnd(t, clients["2001:db8::ffff:ffff:ffff:ffff"]))

	require.NoError(t, conns[0].Close())
	r.from = append(r.from, "2001:db8::3")
	connect(t, ln)
	conn, err := l.Accept()
	require.NoError(t, err, "another address of the /64 takes the place of a connection that was closed")
	for _, c := range append(conns[1:], conn) {
		require.NoError(t, c.Close())
	}
	assert.Empty(t, s.limit.open, "clients without connections are forgotten")
	require.NoError(t, l.Close())
}

// Over TLS a connection beyond the limit is closed without a response, which would have to wait for a handshake.
func TestConnLimitOverTLS(t *testing.T) {
	ln := listenLocal(t)
	serverSide, client := localhost(t)
	s := newServer(Options{RequestTimeout: time.Minute, MaxPerClient: 1, Refusal: func() []byte { return []byte("plain text") }})
	start(t, s, ln, serverSide)
	one := connect(t, ln)
	assert.Equal(t, "HTTP/1.1 200 OK", ask(t, one, client))
	assert.Empty(t, readToEnd(t, connect(t, ln)))
	require.NoError(t, one.Close())
	eventually(t, func() bool {
		s.limit.mu.Lock()
		defer s.limit.mu.Unlock()
		return len(s.limit.open) == 0
	})
}

// A clock that steps silences the warning for no longer than a minute.
func TestConnLimitWarnsWhateverTheClockDoes(t *testing.T) {
	for _, step := range []time.Duration{-4 * 365 * 24 * time.Hour, -time.Hour, time.Hour, 4 * 365 * 24 * time.Hour} {
		l := connLimit{max: 1}
		addr, now := netip.MustParseAddr("192.0.2.1"), time.UnixMilli(1_900_000_000_000)
		warns := func() bool {
			_, warn := l.acquire(addr, now)
			return warn
		}
		warns() // admitted
		assert.True(t, warns(), step)
		assert.False(t, warns(), step)
		now = now.Add(step)
		assert.True(t, warns(), step)
		assert.False(t, warns(), step)
		now = now.Add(-step + time.Minute)
		assert.True(t, warns(), step)
	}
}
