package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
)

// listen opens both listeners, or none. A listener that systemd hands over is taken in place of one of our own. admin is nil when
// it is off.
func listen(c *config.Config) (public, admin net.Listener, err error) {
	public, admin, err = inherited(c)
	if public == nil && err == nil {
		if public, err = listenAt(c.Listen); err != nil {
			err = fmt.Errorf("--listen: %w", err)
		}
	}
	if admin == nil && err == nil && c.AdminListen != "off" {
		if admin, err = listenAt(c.AdminListen); err != nil {
			err = fmt.Errorf(`--admin-listen (it may be "off"): %w`, err)
		}
	}
	if err != nil {
		for _, ln := range []net.Listener{public, admin} {
			if ln != nil {
				err = errors.Join(err, ln.Close())
			}
		}
		return nil, nil, err
	}
	return public, admin, nil
}

func listenAt(addr string) (net.Listener, error) {
	if socket, ok, err := config.ParseUnixSocket(addr); err != nil {
		return nil, err
	} else if ok {
		return listenUnix(socket)
	}
	var lc net.ListenConfig
	// A multipath TCP listener takes no socket filter, and the server needs one to stop without a reset.
	lc.SetMultipathTCP(false)
	return lc.Listen(context.Background(), "tcp", addr)
}
