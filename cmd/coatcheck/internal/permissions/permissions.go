// Package permissions judges which other users of the machine can read or change what a configuration names: the files with
// secrets, the configuration file, and the folder of the sessions.
package permissions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
)

// Levels of a finding.
const (
	Fine    Level = iota
	Warning       // others can do what they may be meant to do, such as a group of operators
	Problem       // any user of the machine can read a secret, or change what the server obeys
)

// Level is how bad a finding is.
type Level int

// Finding is what was found about what one setting names.
type Finding struct {
	Setting string
	Level   Level
	Text    string
}

// Judge returns a finding for each setting that names a file, and for --data-dir if it exists. On Windows, where file modes
// mean nothing, it returns none.
func Judge(c *config.Config) (found []Finding) {
	if runtime.GOOS == "windows" {
		return nil
	}
	for _, f := range files(c) {
		if f.path != "" {
			level, text := judgeFile(f.path, f.secret)
			found = append(found, Finding{Setting: f.setting, Level: level, Text: text})
		}
	}
	if level, text := judgeFolder(c.DataDir); text != "" {
		found = append(found, Finding{Setting: "data-dir", Level: level, Text: text})
	}
	return found
}

// Notes are the findings that are not fine, for the log.
func Notes(c *config.Config) (notes []string) {
	for _, f := range Judge(c) {
		if f.Level != Fine {
			notes = append(notes, "--"+f.Setting+": "+f.Text)
		}
	}
	return notes
}

type file struct {
	setting, path string
	secret        bool // others must not read it
}

func files(c *config.Config) []file {
	return []file{
		{"config", c.File, c.SecretFile != ""},
		{"login-key-file", c.LoginKeyFile, true},
		{"users-file", c.UsersFile, true},
		{"oidc-client-secret-file", c.OIDC.SecretFile, true},
		{"oidc-state-key-file", c.OIDC.StateKeyFile, true},
		{"oidc-ca-file", c.OIDC.CAFile, false},
		{"admin-key-file", c.AdminKeyFile, true},
		{"redis-password-file", c.RedisPasswordFile, true},
		{"tls-cert", c.TLSCert, false},
		{"tls-key", c.TLSKey, true},
	}
}

const (
	groupWrites = 0o020
	othersRead  = 0o004
	othersWrite = 0o002
)

func judgeFile(path string, secret bool) (Level, string) {
	info, err := os.Stat(path)
	if err != nil {
		return Problem, err.Error()
	}
	mode := info.Mode().Perm()
	if dir := filepath.Dir(path); mode&othersWrite == 0 && replaceable(dir) {
		return Problem, fmt.Sprintf("every user of this machine can change what is in the folder %s, and so put another file in the place of %s; chmod o-w %s", dir, path, dir)
	}
	switch {
	case mode&othersWrite != 0:
		return Problem, fmt.Sprintf("every user of this machine can change %s; chmod 640", path)
	case secret && mode&othersRead != 0:
		return Problem, fmt.Sprintf("every user of this machine can read %s, which holds secrets; chmod 640, or 600", path)
	case mode&groupWrites != 0:
		return Warning, fmt.Sprintf("the group of %s can change it; chmod g-w, unless that is meant", path)
	default:
		return Fine, path + " is not open to every user of this machine"
	}
}

// replaceable reports whether every user can replace the files of a folder. In a sticky one, such as /tmp, only their owner can.
func replaceable(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.Mode().Perm()&othersWrite != 0 && info.Mode()&fs.ModeSticky == 0
}

// judgeFolder judges the folder of the sessions and the files in it, which the server makes for its own user alone. There is
// nothing to say of a folder that is not there.
func judgeFolder(dir string) (Level, string) {
	if dir == "" {
		return Fine, ""
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Fine, ""
	case err != nil:
		return Problem, err.Error()
	case info.Mode().Perm()&othersWrite != 0:
		return Problem, fmt.Sprintf("every user of this machine can put files into %s, and take sessions away; chmod 700", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Problem, err.Error()
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && e.Type().IsRegular() && info.Mode().Perm()&(othersRead|othersWrite) != 0 {
			return Problem, fmt.Sprintf("every user of this machine can read or change %s; chmod 600", filepath.Join(dir, e.Name()))
		}
	}
	if info.Mode().Perm()&groupWrites != 0 {
		return Warning, fmt.Sprintf("the group of %s can put files into it; chmod g-w, unless it is a volume whose group is the server's alone", dir)
	}
	return Fine, dir + " is not open to every user of this machine"
}
