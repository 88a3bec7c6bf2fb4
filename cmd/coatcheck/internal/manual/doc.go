// Package manual writes what installed programs have beside --help: the scripts by which shells complete a command line, and the
// man page. All of it is made from the table of commands and the settings of package config, so that it cannot say anything else.
//
//   - manual.go: what there is to know of a command
//   - bash.go, zsh.go, fish.go: the scripts
//   - man.go: the page
package manual
