package daemon

import (
	"syscall"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/server/oidc"
)

// What the parts of the server may need of the process's descriptors, beside the connections whose number their packages limit.
const (
	forProcess = 48 // standard streams, listeners, Go's poller, the hashing process, files that a HUP re-reads, the journal
	forRedis   = 64 // a connection a node, and those that --redis-wait-replicas waits on
	// leastConns is how many connections are allowed however few descriptors there are.
	leastConns = 16
)

// reservedFor returns how many descriptors the parts of the server may need, beside the public listener's connections.
func reservedFor(c *config.Config) int {
	n := forProcess + server.MaxAdminConns
	switch c.Login {
	case "webhook":
		n += login.MaxWebhooks
	case "oidc":
		n += oidc.MaxConns
	}
	if c.Store != "memory" {
		n += forRedis
	}
	return n
}

// limitConnections sets --max-conns, unless it is given, to what the descriptors allow, so that no crowd of clients keeps an
// operator, a HUP or the store from its descriptors.
func (d *daemon) limitConnections() {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return
	}
	d.fitConnections(uint64(limit.Cur), reservedFor(d.Config)) //nolint:unconvert // it is signed on some systems
}

// fitConnections is limitConnections for so many descriptors, of which the other parts of the server may need some.
func (d *daemon) fitConnections(descriptors uint64, reserved int) {
	const most = 1 << 30
	allowed := int(min(descriptors, most)) - reserved
	conns := &d.Config.Server.MaxConns
	if *conns == 0 {
		*conns = max(leastConns, allowed)
	}
	if *conns > allowed {
		d.log.Warn("--max-conns leaves too few descriptors for the other parts of the server; raise LimitNOFILE= or ulimit -n", "max_conns", *conns, "allowed", max(0, allowed))
	}
}
