package daemon

import "syscall"

// What the parts of the server may need of the process's descriptors, beside the public listener's connections.
const (
	forProcess = 48 // standard streams, listeners, Go's poller, the hashing process, files that a HUP re-reads, the journal
	forAdmin   = 64 // server.MaxAdminConns
	forWebhook = 64 // login.Webhook's connections
	forRedis   = 64 // a connection a node, and those that --redis-wait-replicas waits on
	// leastConns is how many connections are allowed however few descriptors there are.
	leastConns = 16
)

// connectionsFor returns how many connections the public listener may have when the process may have so many descriptors.
func connectionsFor(descriptors uint64, reserved int) int {
	const most = 1 << 30
	return max(leastConns, int(min(descriptors, most))-reserved)
}

// limitConnections sets --max-conns, unless it is given, to what the descriptors allow, so that no crowd of clients keeps an
// operator, a HUP or the store from its descriptors.
func (d *daemon) limitConnections() {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return
	}
	reserved := forProcess + forAdmin
	if d.Config.Login == "webhook" {
		reserved += forWebhook
	}
	if d.Config.Store != "memory" {
		reserved += forRedis
	}
	allowed := connectionsFor(uint64(limit.Cur), reserved) //nolint:unconvert // it is signed on some systems
	given := d.Config.Server.MaxConns
	switch {
	case given == 0:
		d.Config.Server.MaxConns = allowed
	case given > allowed:
		d.log.Warn("--max-conns leaves too few descriptors for the other parts of the server; raise LimitNOFILE= or ulimit -n", "max_conns", given, "allowed", allowed)
	}
}
