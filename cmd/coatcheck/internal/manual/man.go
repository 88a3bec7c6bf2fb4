package manual

import (
	"fmt"
	"strings"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
)

// Page is the manual page coatcheck(1), for man(1).
func Page(version string, commands []Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH COATCHECK 1 \"\" %s \"coatcheck\"\n", roffQuote("coatcheck "+version))
	b.WriteString(".SH NAME\ncoatcheck \\- session server: an opaque ticket in a cookie, revoked at once\n.SH SYNOPSIS\n.nf\n")
	for i := range commands {
		fmt.Fprintf(&b, "%s\n", roff(strings.TrimSpace("coatcheck "+commands[i].Name+" "+commands[i].Args)))
	}
	b.WriteString(".fi\n.SH DESCRIPTION\nYou hand over who you are, you get an opaque ticket in a cookie, and every later request shows the ticket. The server answers at " +
		"memory speed, and a ticket that was taken back is dead at once, everywhere.\n.SH COMMANDS\n")
	for i := range commands {
		c := &commands[i]
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(c.Name), roff(sentence(c.About)))
		for _, f := range c.Flags {
			fmt.Fprintf(&b, ".RS\n.TP\n%s\n%s\n.RE\n", roffFlag(f), roff(sentence(f.Help)))
		}
	}
	b.WriteString(".SH SETTINGS\nEach is a flag of\n.BR serve ,\nan environment variable and, by the flag's name, a key of the TOML file that\n.B \\-\\-config\n" +
		"names. A flag wins over the environment, the environment over the file. The commands that ask a running server, and\n.BR doctor ,\ntake them too.\n")
	group := ""
	for _, f := range config.Settings() {
		if f.Group != group {
			group = f.Group
			fmt.Fprintf(&b, ".SS %s\n", roffQuote(group))
		}
		fmt.Fprintf(&b, ".TP\n%s, %s\n%s\n", roffFlag(f), roff(f.Env), roff(sentence(f.Help)))
	}
	b.WriteString(".SH SIGNALS\n.TP\n.B TERM, INT\nDrain and stop; a second one ends the process at once.\n.TP\n.B HUP\n" +
		"Read keys, users, certificates and\n.B \\-\\-sessions\\-not\\-before\nagain, each by itself; what cannot be read is tried again until it can.\n" +
		".SH EXIT STATUS\n.TP\n.B 0\nIt was done.\n.TP\n.B 1\nIt failed.\n.TP\n.B 2\nThe command line or the configuration has mistakes; all of them are listed.\n")
	return b.String()
}

func roffFlag(f config.Info) string {
	text := `\fB` + roff("--"+f.Name) + `\fR`
	if f.Noun != "" {
		text += ` \fI` + roff(f.Noun) + `\fR`
	}
	return text
}

// sentence begins with a capital and ends with a full stop.
func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// roff escapes what has a meaning for troff: a backslash, a hyphen that must stay one, and a dot or quote at the beginning of a
// line.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

func roffQuote(s string) string { return `"` + strings.ReplaceAll(roff(s), `"`, `\(dq`) + `"` }
