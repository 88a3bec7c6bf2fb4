package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const unixPrefix = "unix:"

// UnixSocket is a Unix socket on which a server listens: unix:/run/coatcheck.sock?mode=0660&owner=coatcheck:www-data.
type UnixSocket struct {
	Path string
	Mode fs.FileMode // who may connect: those who may write to the file
	// User and Group own the file. Empty: those of the process.
	User, Group string
}

// defaultSocketMode lets the process's user and group connect.
const defaultSocketMode = 0o660

// maxSocketPath is how long the system lets a path be: 107 bytes on Linux, 103 on macOS. A longer one is "invalid argument" to it.
const maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// ParseUnixSocket reads an address that begins with unix:. ok says whether it does.
func ParseUnixSocket(addr string) (s UnixSocket, ok bool, err error) {
	rest, ok := strings.CutPrefix(addr, unixPrefix)
	if !ok {
		return s, false, nil
	}
	path, query, _ := strings.Cut(rest, "?")
	s = UnixSocket{Path: path, Mode: defaultSocketMode}
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
		return s, true, errors.New("must have an absolute path, as in unix:/run/coatcheck.sock")
	}
	if len(path) > maxSocketPath {
		return s, true, fmt.Errorf("the path has %d bytes, and that of a socket has %d at most", len(path), maxSocketPath)
	}
	settings, err := url.ParseQuery(query)
	if err != nil {
		return s, true, errors.New("behind the path mode= and owner= are known, as in ?mode=0660&owner=coatcheck:www-data")
	}
	for name, values := range settings {
		switch {
		case name == "mode" && len(values) == 1:
			mode, err := strconv.ParseUint(values[0], 8, 32)
			if err != nil || mode == 0 || mode > 0o777 {
				return s, true, errors.New("mode= must be an octal number such as 0660")
			}
			s.Mode = fs.FileMode(mode)
		case name == "owner" && len(values) == 1:
			s.User, s.Group, _ = strings.Cut(values[0], ":")
		default:
			return s, true, errors.New("behind the path mode= and owner= are known, once each, as in ?mode=0660&owner=coatcheck:www-data")
		}
	}
	return s, true, nil
}

// unknownOwner returns an error for a Unix socket whose owner the system does not know.
func unknownOwner(addr string) error {
	s, ok, err := ParseUnixSocket(addr)
	if !ok || err != nil { // which is reported elsewhere
		return nil //nolint:nilerr // likewise
	}
	_, _, err = s.Owner()
	return err
}

// sameAddress reports whether nobody can listen at both addresses.
func sameAddress(a, b string) bool {
	socket, ok, _ := ParseUnixSocket(a)
	if other, both, _ := ParseUnixSocket(b); ok && both {
		return socket.Path == other.Path
	}
	return a == b && !strings.HasSuffix(a, ":0")
}

// Owner returns the numbers of the user and of the group that are to own the file; -1 stands for what is not to be changed.
func (s UnixSocket) Owner() (uid, gid int, err error) {
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
