// Package config reads the program's settings: from the command line, the environment and the TOML file. It opens no file but
// that one: package credentials and the stores open what Config names.
//
//   - config.go: Config, and Load and LoadOnly, which make one
//   - settings.go: the table of settings, the one place where a flag is declared
//   - kinds.go: how the text of a setting is read, by kind; unixsocket.go: that of unix:path, and its owner
//   - commandline.go, environment.go, file.go: the three sources
//   - validate.go: the rules about several settings together; shown.go: what a mistake shows of a value
//   - help.go: what `coatcheck serve --help` prints; info.go is for other kinds of help
package config
