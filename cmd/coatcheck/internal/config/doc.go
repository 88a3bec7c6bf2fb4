// Package config reads what the program is told: on the command line, in the environment and in the TOML file. It opens nothing
// that a setting names, but for that file: Config says what to open, and package credentials and the stores open it.
//
//   - config.go: Config, and Load and LoadOnly, which make one
//   - settings.go: the table of settings, the one place where a flag is declared
//   - kinds.go: how the text of a setting is read, by kind
//   - commandline.go, environment.go, file.go: the three sources
//   - validate.go: what settings must not be when taken together
//   - help.go: what `coatcheck serve --help` prints
package config
