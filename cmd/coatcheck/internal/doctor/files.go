package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/certificate"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/permissions"
	"github.com/coatcheck/coatcheck/shardstore"
)

// login reports who may log in.
func (d *doctor) login() {
	switch {
	case d.c.Login != "open":
		d.say("login", Fine, "mode %s", d.c.Login)
	case config.Exposed(d.c.Listen) || d.url != nil && !isLocal(d.url.Hostname()):
		d.say("login", Problem, "mode open: anybody who reaches the server can log in as anybody; use trusted, users, webhook or oidc")
	default:
		d.say("login", Warning, "mode open: anybody who reaches the server can log in as anybody; right for development only")
	}
}

// permissions reports which other users of the machine can read or change what the configuration names.
func (d *doctor) permissions() {
	for _, f := range permissions.Judge(d.c) {
		check := f.Setting
		if check == "tls-cert" || check == "data-dir" {
			check += "-mode" // there are checks of what is in them, too
		}
		d.say(check, [...]string{permissions.Fine: Fine, permissions.Warning: Warning, permissions.Problem: Problem}[f.Level], "%s", f.Text)
	}
}

// ownCertificate reports how long the certificate of --tls-cert is valid. Whether it fits its key was checked when it was
// opened.
func (d *doctor) ownCertificate() {
	if d.c.TLSCert == "" {
		return
	}
	pair, err := certificate.Open(d.c.TLSCert, d.c.TLSKey)
	if err != nil {
		d.say("tls-cert", Problem, "%v", err)
		return
	}
	d.certificate("tls-cert", pair.NotAfter())
}

// sockets reports whether the server can make its Unix sockets. A server that has answered has made them.
func (d *doctor) sockets() {
	if d.api != nil {
		return
	}
	for _, l := range []struct{ check, address string }{{"listen-socket", d.c.Listen}, {"admin-socket", d.c.AdminListen}} {
		socket, ok, err := config.ParseUnixSocket(l.address)
		if !ok || err != nil { // the configuration has none that is wrong
			continue
		}
		dir := filepath.Dir(socket.Path)
		switch err := writable(dir); {
		case errors.Is(err, fs.ErrNotExist): // what starts the server may make it
			d.say(l.check, Warning, "%s is not there, and the server makes no folder for a socket: "+
				"have it made before each start (RuntimeDirectory= of systemd), or let systemd make the socket", dir)
		case err != nil:
			d.say(l.check, Problem, "the server cannot make its socket in %s: %v", dir, err)
		default:
			d.say(l.check, Fine, "the server can make its socket in %s", dir)
		}
	}
}

// memory reports whether the memory store survives a restart.
func (d *doctor) memory() {
	dir := d.c.DataDir
	if dir == "" {
		d.say("store", Fine, "memory: a restart logs everybody out; --data-dir, or Redis, keeps sessions")
		return
	}
	n, err := shardstore.Verify(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := writable(existing(dir)); err != nil {
			d.say("data-dir", Problem, "%s is not there and cannot be made: %v", dir, err)
			return
		}
		d.say("data-dir", Fine, "%s is not there yet, the server makes it", dir)
	case errors.Is(err, shardstore.ErrNoJournal):
		d.unused(dir)
	case errors.Is(err, shardstore.ErrInUse) && d.api != nil:
		d.written(dir, "%s is in use, by the running server as it seems", dir)
	case errors.Is(err, shardstore.ErrInUse):
		d.say("data-dir", Problem, "%s is in use by another process, and this server does not run: one folder is one server's; stop the other, or name another folder", dir)
	case errors.Is(err, fs.ErrPermission):
		d.say("data-dir", Problem, "%v: the server's user must own the folder and what is in it", err)
	case err != nil:
		d.say("data-dir", Problem, "%v: the server will not start; restore it from a copy, or begin with an empty folder, which logs everybody out", err)
	default:
		d.written(dir, "%s is sound: %d live sessions", dir, n)
	}
}

// enoughSpace is what docs/operations.md, "Sizing", demands for the smallest of folders.
const enoughSpace = 256 << 20

// written reports whether the server can go on in a folder with which nothing else is wrong, as the text says.
func (d *doctor) written(dir, format string, args ...any) {
	if err := writable(dir); err != nil {
		d.say("data-dir", Problem, "%s cannot be written: %v", dir, err)
		return
	}
	if free, known := freeSpace(dir); known && free+sizeOf(dir) < enoughSpace {
		d.say("data-dir", Warning, "%s: the files in it and what is free on its disk make %d MiB, and journals and snapshots may need 256 and more; "+
			"once it is full nobody can log in", dir, (free+sizeOf(dir))>>20)
		return
	}
	d.say("data-dir", Fine, format, args...)
}

// sizeOf returns the size of the files in a folder.
func sizeOf(dir string) (sum uint64) {
	entries, _ := os.ReadDir(dir) // after an error, of those that were read
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			sum += uint64(info.Size()) //nolint:gosec // a size is not negative
		}
	}
	return sum
}

// unused reports what will happen to a folder that no server has used yet.
func (d *doctor) unused(dir string) {
	entries, err := os.ReadDir(dir)
	others := slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "lock" })
	switch {
	case err != nil:
		d.say("data-dir", Problem, "%v", err)
	case len(others) > 0:
		d.say("data-dir", Warning, "%s holds files and no sessions, and the server would put its own beside them: see that it is the right folder, "+
			"and that no copy lacks its journal", dir)
	default:
		d.written(dir, "%s is empty, the server begins there", dir)
	}
}

// existing returns the nearest folder above a path that exists.
func existing(path string) string {
	for {
		parent := filepath.Dir(path)
		if _, err := os.Stat(parent); err == nil || parent == path {
			return parent
		}
		path = parent
	}
}

// writable makes a file in a folder and removes it again. The file has a few bytes, because a disk that is full still takes an empty
// one, and they are synced, because some file systems say so only then.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".coatcheck-doctor-")
	if err != nil {
		return fmt.Errorf("not writable: %w", err)
	}
	_, err = f.Write(make([]byte, 4096))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}
