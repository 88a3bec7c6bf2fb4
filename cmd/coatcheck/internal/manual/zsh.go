package manual

import (
	"fmt"
	"strings"
)

// zsh is a script for zsh's completion system.
func zsh(commands []Command) string {
	var b strings.Builder
	b.WriteString("#compdef coatcheck\n# zsh completion for coatcheck: coatcheck completion zsh > " +
		"/usr/share/zsh/vendor-completions/_coatcheck\n_coatcheck() {\n  local -a commands\n  commands=(\n")
	for i := range commands {
		fmt.Fprintf(&b, "    %s\n", zshQuote(commands[i].Name+":"+commands[i].About))
	}
	b.WriteString("  )\n  if ((CURRENT == 2)); then\n    _describe command commands\n    return\n  fi\n  local command=$words[2]\n  " +
		"words=(\"${(@)words[2,-1]}\")\n  ((CURRENT--))\n  case $command in\n")
	for i := range commands {
		c := &commands[i]
		fmt.Fprintf(&b, "  %s)\n    _arguments", c.Name)
		if c.Words != nil {
			fmt.Fprintf(&b, " \\\n      %s", zshQuote("1:word:("+strings.Join(c.Words, " ")+")"))
		}
		for _, f := range c.flags() {
			spec := "--" + f.Name
			if f.Noun != "" {
				spec += "="
			}
			spec += "[" + zshText(f.Help) + "]"
			switch {
			case f.Words != nil:
				spec += ":" + f.Name + ":(" + strings.Join(f.Words, " ") + ")"
			case f.IsFile():
				spec += ":" + f.Noun + ":_files"
			case f.Noun != "":
				spec += ":" + zshText(f.Noun) + ": "
			}
			fmt.Fprintf(&b, " \\\n      %s", zshQuote(spec))
		}
		b.WriteString("\n    ;;\n")
	}
	b.WriteString("  esac\n}\n_coatcheck \"$@\"\n")
	return b.String()
}

// zshText escapes what has a meaning within the description of a flag.
func zshText(s string) string {
	return strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`).Replace(s)
}

func zshQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
