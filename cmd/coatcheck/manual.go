package main

import (
	"fmt"
	"io"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/manual"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/suggest"
)

const completionUsage = `Usage:
  coatcheck completion bash|zsh|fish

Prints the script by which the shell completes commands, flags and their values. To have it now and always:

  bash   coatcheck completion bash > /etc/bash_completion.d/coatcheck
  zsh    coatcheck completion zsh > /usr/share/zsh/vendor-completions/_coatcheck
  fish   coatcheck completion fish > /usr/share/fish/vendor_completions.d/coatcheck.fish
`

const manUsage = `Usage:
  coatcheck man

Prints the manual page: "coatcheck man | man -l -" shows it, "coatcheck man > /usr/share/man/man1/coatcheck.1" installs it.
`

// runCompletion prints the completion script of a shell.
func runCompletion(args []string, stdout, stderr io.Writer) int {
	if asksForHelp(args) {
		return say(stdout, completionUsage)
	}
	if len(args) != 1 {
		say(stderr, "coatcheck: completion: name one shell\n\n"+completionUsage)
		return exitUsage
	}
	script, known := manual.Completion(args[0], described())
	if !known {
		say(stderr, fmt.Sprintf("coatcheck: completion: the shell %.40q is not known%s\n\n%s", args[0], suggest.DidYouMean(args[0], "", manual.Shells), completionUsage))
		return exitUsage
	}
	return say(stdout, script)
}

// runMan prints the manual page.
func runMan(args []string, stdout, stderr io.Writer) int {
	if asksForHelp(args) {
		return say(stdout, manUsage)
	}
	if len(args) > 0 {
		return refuseWords("man", args, manUsage, stderr)
	}
	return say(stdout, manual.Page(buildVersion(version, buildInfo()), described()))
}
