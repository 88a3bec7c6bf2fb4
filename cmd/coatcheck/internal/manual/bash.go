package manual

import (
	"fmt"
	"slices"
	"strings"
)

// bash is a script for bash 4 and newer. Bash splits --login=open into three words at the equals sign, so both spellings of a flag
// leave its name in front of the value.
func bash(commands []Command) string {
	var b, values strings.Builder
	var names, files, texts []string
	b.WriteString("# bash completion for coatcheck: coatcheck completion bash > /etc/bash_completion.d/coatcheck\n_coatcheck() {\n")
	b.WriteString("  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} flag\n  COMPREPLY=()\n")
	for i := range commands {
		names = append(names, commands[i].Name)
		for _, f := range commands[i].flags() {
			flag := "--" + f.Name
			switch {
			case f.Words != nil:
				fmt.Fprintf(&values, "    %s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", flag, strings.Join(f.Words, " "))
			case f.IsFile():
				files = append(files, flag)
			case f.Noun != "":
				texts = append(texts, flag)
			}
		}
	}
	fmt.Fprintf(&b, "  if ((COMP_CWORD == 1)); then\n    COMPREPLY=($(compgen -W '%s' -- \"$cur\"))\n    return\n  fi\n", strings.Join(names, " "))
	b.WriteString("  flag=$prev\n  [[ $prev == '=' ]] && flag=${COMP_WORDS[COMP_CWORD-2]}\n  [[ $cur == '=' ]] && cur=\n")
	b.WriteString("  case $flag in\n" + unique(values.String()))
	fmt.Fprintf(&b, "    %s) COMPREPLY=($(compgen -f -- \"$cur\")); compopt -o filenames 2>/dev/null; return ;;\n", strings.Join(sortedOnce(files), "|"))
	fmt.Fprintf(&b, "    %s) return ;;\n  esac\n  case ${COMP_WORDS[1]} in\n", strings.Join(sortedOnce(texts), "|"))
	for i := range commands {
		c := &commands[i]
		words := slices.Clone(c.Words)
		for _, f := range c.flags() {
			words = append(words, "--"+f.Name)
		}
		fmt.Fprintf(&b, "    %s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")) ;;\n", c.Name, strings.Join(words, " "))
	}
	b.WriteString("  esac\n}\ncomplete -F _coatcheck coatcheck\n")
	return b.String()
}

func sortedOnce(words []string) []string {
	slices.Sort(words)
	return slices.Compact(words)
}

// unique leaves the first of several equal lines: commands share the flags of serve.
func unique(lines string) string {
	var b strings.Builder
	seen := make(map[string]bool)
	for line := range strings.Lines(lines) {
		if !seen[line] {
			seen[line] = true
			b.WriteString(line)
		}
	}
	return b.String()
}
