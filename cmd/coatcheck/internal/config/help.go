package config

import (
	"fmt"
	"strings"
)

const serveUsage = `Usage:
  coatcheck serve [flags]

Each flag may also be an environment variable (--max-lifetime is COATCHECK_MAX_LIFETIME) or a key in the TOML file that
--config names (max-lifetime = "12h"). A flag wins over the environment, the environment over the file.
`

// ServeHelp is the help of serve: every setting, by group.
func ServeHelp() string {
	var b strings.Builder
	b.WriteString(serveUsage)
	table := settings(new(Config))
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
