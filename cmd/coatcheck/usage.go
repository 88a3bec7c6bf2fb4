package main

import (
	"fmt"
	"strings"
)

const usage = `coatcheck keeps sessions: an opaque ticket in a cookie, looked up in memory, revoked at once.

Usage:
  coatcheck serve [flags]                   start the server; "coatcheck serve --dev" to try it out
  coatcheck hash-password --user NAME       print the line of --users-file for a password, from the terminal or stdin
  coatcheck data verify DIR                 check what a server left in --data-dir, and count its sessions
  coatcheck doctor [flags]                  check a configuration and the server that runs with it
  coatcheck healthcheck [flags]             ask the running server whether it is alive; for containers
  coatcheck sessions list USER              show the sessions of a user of a running server
  coatcheck sessions revoke USER [ID]       end all of them, or one
  coatcheck version                         print the version

"coatcheck serve --help" lists the flags.
`

const serveUsage = `Usage:
  coatcheck serve [flags]

Each flag may also be an environment variable (--max-lifetime is COATCHECK_MAX_LIFETIME) or a key in the TOML file that
--config names (max-lifetime = "12h"). A flag wins over the environment, the environment over the file.
`

// serveHelp is the help of serve: every setting, by group.
func serveHelp() string {
	var b strings.Builder
	b.WriteString(serveUsage)
	table := settings(new(config))
	for i := range table {
		s := &table[i]
		if i == 0 || table[i-1].group != s.group {
			fmt.Fprintf(&b, "\n%s:\n", s.group)
		}
		flag := "--" + s.name
		if s.kind.noun != "" {
			flag += " " + s.kind.noun
		}
		fmt.Fprintf(&b, "  %s\n        %s%s\n", flag, s.help, s.defaults())
	}
	return b.String()
}

// defaults says in brackets what happens without the setting.
func (s *setting) defaults() string {
	var parts []string
	switch {
	case s.def != "":
		parts = append(parts, "default "+s.def)
	case s.unset != "":
		parts = append(parts, "default: "+s.unset)
	}
	if s.dev != "" {
		parts = append(parts, "with --dev "+s.dev)
	}
	if parts == nil {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}
