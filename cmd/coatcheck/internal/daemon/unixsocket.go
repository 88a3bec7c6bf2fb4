package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
)

// listenUnix listens on a Unix socket. A file that a server left which was killed is replaced; one on which somebody listens, or
// that is no socket, is not. The file is removed when the listener is closed. Until it has its owner and its mode nobody but root may
// connect.
func listenUnix(s config.UnixSocket) (net.Listener, error) {
	uid, gid, err := ownerOf(s)
	if err != nil {
		return nil, err
	}
	if err := removeStale(s.Path); err != nil {
		return nil, err
	}
	ln, err := listenClosed(s.Path)
	if err != nil {
		return nil, err
	}
	if uid >= 0 || gid >= 0 {
		err = os.Chown(s.Path, uid, gid)
	}
	if err == nil {
		err = os.Chmod(s.Path, s.Mode)
	}
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is no socket", path)
	}
	conn, err := new(net.Dialer).DialContext(context.Background(), "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("somebody listens at %s", path), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s is there, and nothing shows that nobody listens: %w", path, err)
	}
	return os.Remove(path)
}

// ownerOf returns the numbers of a socket's owner; -1 stands for what is not to be changed.
func ownerOf(s config.UnixSocket) (uid, gid int, err error) {
	uid, gid = -1, -1
	if s.User != "" {
		u, err := user.Lookup(s.User)
		if err != nil {
			return 0, 0, err
		}
		if uid, err = strconv.Atoi(u.Uid); err != nil {
			return 0, 0, err
		}
	}
	if s.Group != "" {
		g, err := user.LookupGroup(s.Group)
		if err != nil {
			return 0, 0, err
		}
		if gid, err = strconv.Atoi(g.Gid); err != nil {
			return 0, 0, err
		}
	}
	return uid, gid, nil
}
