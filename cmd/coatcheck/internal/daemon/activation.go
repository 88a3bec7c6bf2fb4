package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
)

// firstInherited is the first descriptor that systemd hands over (sd_listen_fds(3)).
const firstInherited = 3

// inherited returns the listeners that systemd hands over by socket activation: that of the name "admin" is the admin listener,
// another one the public one. The order says nothing: systemd hands over the sockets of several units in an order of its own. Without
// socket activation both are nil.
//
// The socket stays open when this process stops, so that a restart refuses nobody: what has not been accepted waits for the next
// process. So nothing may be done to the socket at a stop, and its type is hidden from package conn, which would empty its backlog
// and make it drop new connections.
func inherited(c *config.Config) (public, admin net.Listener, err error) {
	n, names := inheritedCount()
	for i := range n {
		fd := firstInherited + i
		syscall.CloseOnExec(fd)
		file := os.NewFile(uintptr(fd), "inherited")
		ln, lnErr := net.FileListener(file)
		if lnErr = errors.Join(lnErr, file.Close()); lnErr != nil {
			return public, admin, errors.Join(err, fmt.Errorf("socket activation: descriptor %d is no listening socket: %w", fd, lnErr))
		}
		shared := struct{ net.Listener }{ln}
		isAdmin := i < len(names) && names[i] == "admin"
		switch {
		case isAdmin && admin == nil && c.AdminListen != "off":
			admin = shared
		case !isAdmin && public == nil:
			public = shared
		default:
			err = errors.Join(err, fmt.Errorf("socket activation: descriptor %d is one too many: there is one socket for --listen, and one named admin for --admin-listen", fd), ln.Close())
		}
	}
	return public, admin, errors.Join(err, exposedInherited(c, public, admin))
}

// inheritedCount reads the variables of socket activation, and removes them for the sake of other processes.
func inheritedCount() (n int, names []string) {
	defer func() {
		for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			_ = os.Unsetenv(name) // fails for no name without = or NUL
		}
	}()
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return 0, nil
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 0 {
		return 0, nil
	}
	if text := os.Getenv("LISTEN_FDNAMES"); text != "" && strings.Count(text, ":") == n-1 {
		names = strings.Split(text, ":")
	}
	return n, names
}

// exposedInherited refuses for inherited sockets what is refused for --listen and --admin-listen.
func exposedInherited(c *config.Config, public, admin net.Listener) (err error) {
	switch exposed := public != nil && config.Exposed(public.Addr().String()); {
	case exposed && c.Dev:
		err = fmt.Errorf("socket activation: --dev listens on a loopback address only, and %s is none", public.Addr())
	case exposed && c.Login == "open" && !c.AllowOpenLogin:
		err = fmt.Errorf("socket activation: on %s others can log in as anybody; if that is meant, say --allow-open-login", public.Addr())
	}
	if admin != nil && c.AdminKeyFile == "" && config.Exposed(admin.Addr().String()) {
		err = errors.Join(err, fmt.Errorf("socket activation: the admin listener %s is not on loopback and needs --admin-key-file", admin.Addr()))
	}
	return err
}
