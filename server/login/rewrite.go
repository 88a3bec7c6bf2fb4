package login

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// rewrite is a users file about to be replaced by a copy in which one hash is another. People edit that file by hand, and
// editors know no locks: a rewrite is dropped when the file is no longer what it was made from, and the few microseconds
// between that look and the rename are all that an edit can fall into.
type rewrite struct {
	path   string // the file itself, where the configured one is a symbolic link
	temp   string
	before []byte
}

// stageRewrite writes the copy beside the file, with its mode and owner, and onto the disk. It returns nil without an
// error if the file does not hold the user with the old hash any more.
func stageRewrite(file, name, old, fresh string) (_ *rewrite, err error) {
	path, err := filepath.EvalSymlinks(file)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	r := &rewrite{path: path}
	if r.before, err = os.ReadFile(path); err != nil {
		return nil, err
	}
	next, ok := withHash(r.before, name, old, fresh)
	if !ok {
		return nil, nil //nolint:nilnil // documented: there is nothing to do, which is no failure
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	r.temp = f.Name()
	defer func() {
		if err != nil {
			r.drop()
		}
	}()
	_, err = f.Write(next)
	if err := errors.Join(err, keepOwner(f, info), f.Chmod(info.Mode().Perm()), f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	return r, nil
}

// commit puts the copy in the file's place. It returns false without an error if the file was edited meanwhile.
func (r *rewrite) commit() (bool, error) {
	defer r.drop()
	now, err := os.ReadFile(r.path)
	if err != nil {
		return false, err
	}
	if !bytes.Equal(now, r.before) {
		return false, nil
	}
	if err := os.Rename(r.temp, r.path); err != nil {
		return false, err
	}
	dir, err := os.Open(filepath.Dir(r.path))
	if err != nil {
		return true, fmt.Errorf("the file was replaced, which may not be on the disk yet: %w", err)
	}
	return true, errors.Join(dir.Sync(), dir.Close())
}

// drop removes the copy; after the rename there is none.
func (r *rewrite) drop() { _ = os.Remove(r.temp) }
