package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
)

// listen opens both listeners, or none. admin is nil when it is off.
func listen(c *config.Config) (public, admin net.Listener, err error) {
	var lc net.ListenConfig
	// A multipath TCP listener takes no socket filter, and the server needs one to stop without a reset.
	lc.SetMultipathTCP(false)
	ctx := context.Background()
	if public, err = lc.Listen(ctx, "tcp", c.Listen); err != nil {
		return nil, nil, fmt.Errorf("--listen: %w", err)
	}
	if c.AdminListen == "off" {
		return public, nil, nil
	}
	if admin, err = lc.Listen(ctx, "tcp", c.AdminListen); err != nil {
		return nil, nil, errors.Join(fmt.Errorf(`--admin-listen (it may be "off"): %w`, err), public.Close())
	}
	return public, admin, nil
}
