package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
)

// listenUnix listens on a Unix socket. It replaces a file that a killed server left, but neither one on which another process listens
// nor one that is no socket. The file is removed when the listener is closed. Until it has its owner and its mode, nobody but root may
// connect.
func listenUnix(s config.UnixSocket) (net.Listener, error) {
	uid, gid, err := s.Owner()
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
	if err := handOver(s, uid, gid); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// handOver gives the socket's file its owner and then its mode. If somebody who may write to the folder has put a symbolic link in its
// place, nothing outside of the folder is changed.
func handOver(s config.UnixSocket, uid, gid int) error {
	folder, err := os.OpenRoot(filepath.Dir(s.Path))
	if err != nil {
		return err
	}
	defer folder.Close() //nolint:errcheck // nothing was written to it
	name := filepath.Base(s.Path)
	if uid >= 0 || gid >= 0 {
		if err := folder.Lchown(name, uid, gid); err != nil {
			return err
		}
	}
	return folder.Chmod(name, s.Mode)
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
	if !isLeft(info.Mode().Perm(), err) {
		return fmt.Errorf("%s is there, and nothing shows that nobody listens: %w", path, err)
	}
	return os.Remove(path)
}

// isLeft reports whether a socket's file was left by a server that was killed, by the file's permissions and the error of a connection to
// it. Nobody but root can connect to a socket without permissions, which is one whose server was killed before it set them.
func isLeft(mode fs.FileMode, err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || mode == 0 && errors.Is(err, fs.ErrPermission)
}
