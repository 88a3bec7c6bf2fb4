package manual

import (
	"fmt"
	"strings"
)

// fish is a script for fish 3 and newer.
func fish(commands []Command) string {
	var b strings.Builder
	b.WriteString("# fish completion for coatcheck: coatcheck completion fish > /usr/share/fish/vendor_completions.d/coatcheck.fish\ncomplete -c coatcheck -f\n")
	for i := range commands {
		fmt.Fprintf(&b, "complete -c coatcheck -n __fish_use_subcommand -a %s -d %s\n", commands[i].Name, fishQuote(commands[i].About))
	}
	for i := range commands {
		c := &commands[i]
		line := func(format string, args ...any) {
			fmt.Fprintf(&b, "complete -c coatcheck -n '__fish_seen_subcommand_from %s'"+format+"\n", append([]any{c.Name}, args...)...)
		}
		if c.Words != nil {
			line(" -a %s", fishQuote(strings.Join(c.Words, " ")))
		}
		for _, f := range c.flags() {
			kind := ""
			switch {
			case f.Words != nil:
				kind = " -x -a " + fishQuote(strings.Join(f.Words, " "))
			case f.IsFile():
				kind = " -r -F"
			case f.Noun != "":
				kind = " -x"
			}
			line(" -l %s%s -d %s", f.Name, kind, fishQuote(f.Help))
		}
	}
	return b.String()
}

func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}
