//go:build !unix

package login

import (
	"io/fs"
	"os"
)

// keepOwner does nothing: a new file inherits its owner from the directory here.
func keepOwner(*os.File, fs.FileInfo) error { return nil }
