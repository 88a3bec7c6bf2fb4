package login

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// rewrite replaces a users file by a copy in which one hash is changed. Administrators edit that file by hand, and editors
// take no locks: a rewrite is dropped if the file has changed since it was read, so that an edit is lost only if it falls
// into the few microseconds between that check and the rename.
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

// drop removes the copy, which no longer exists after the rename.
func (r *rewrite) drop() { _ = os.Remove(r.temp) }
