package daemon

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
)

// at is a listener that has only an address.
type at struct {
	net.Listener
	addr net.Addr
}

func (l at) Addr() net.Addr { return l.addr }

// Sockets that somebody else has opened are judged like those that the settings name.
func TestInheritedSocketsThatAreExposed(t *testing.T) {
	loopback := at{addr: &net.TCPAddr{IP: net.IPv6loopback, Port: 3000}}
	socket := at{addr: &net.UnixAddr{Name: "/run/coatcheck", Net: "unix"}}
	all := at{addr: &net.TCPAddr{IP: net.IPv6unspecified, Port: 3000}}
	for name, c := range map[string]struct {
		public, admin net.Listener
		config        config.Config
		want          string
	}{
		"open on loopback":       {public: loopback, config: config.Config{Login: "open"}},
		"open on a Unix socket":  {public: socket, config: config.Config{Login: "open"}},
		"open for all":           {public: all, config: config.Config{Login: "open"}, want: "others can log in as anybody"},
		"open for all, as meant": {public: all, config: config.Config{Login: "open", AllowOpenLogin: true}},
		"users for all":          {public: all, config: config.Config{Login: "users"}},
		"--dev on loopback":      {public: loopback, config: config.Config{Login: "open", Dev: true}},
		"--dev for all":          {public: all, config: config.Config{Login: "open", Dev: true, AllowOpenLogin: true}, want: "--dev listens on a loopback address only"},
		"--dev, users, for all":  {public: all, config: config.Config{Login: "users", Dev: true}, want: "--dev listens on a loopback address only"},
		"admin on loopback":      {admin: loopback},
		"admin on a Unix socket": {admin: socket},
		"admin for all":          {admin: all, want: "needs --admin-key-file"},
		"admin for all, a key":   {admin: all, config: config.Config{AdminKeyFile: "keys"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := exposedInherited(&c.config, c.public, c.admin)
			if c.want == "" {
				assert.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}
