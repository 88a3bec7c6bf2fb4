package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/daemon"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/manual"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/suggest"
)

// The exit codes of the process.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// namedCommand is a command of the program.
type namedCommand struct {
	manual.Command
	run func(invocation) int
}

// invocation is what a command is run with.
type invocation struct {
	args, environ  []string
	signals        daemon.Signals
	stdin          io.Reader
	stdout, stderr io.Writer
}

var hashPasswordFlags = []config.Info{
	{Name: "user", Noun: "NAME", Help: "the user's name"},
	{Name: "name", Noun: "TEXT", Help: "what others call the user"},
	{Name: "email", Noun: "ADDRESS", Help: "the user's e-mail address"},
	{Name: "groups", Noun: "A,B", Help: "the groups that the user is in"},
}

var asJSON = config.Info{Name: "json", Help: "print JSON"}

// commands returns the commands for people, in the order of the usage text. The completions of shells, the manual page and the
// suggestions for a misspelled command are made from this list.
func commands() []namedCommand {
	return []namedCommand{
		{
			Command: manual.Command{Name: "serve", Args: "[flags]", About: "start the server; with --dev to try it out", Settings: true},
			run:     func(in invocation) int { return runServe(in.args, in.environ, in.signals, in.stdout, in.stderr) },
		},
		{
			Command: manual.Command{
				Name: "hash-password", Args: "--user NAME", About: "print the line of --users-file for a password, from the terminal or stdin; with --groups, --email, --name",
				Flags: hashPasswordFlags,
			},
			run: func(in invocation) int { return runHashPassword(in.args, in.stdin, in.stdout, in.stderr) },
		},
		{
			Command: manual.Command{
				Name: "data", Args: "verify DIR", About: "check what a server left in --data-dir, and count its sessions",
				Words: []string{"verify"}, Settings: true,
			},
			run: func(in invocation) int { return runData(in.args, in.environ, in.stdout, in.stderr) },
		},
		{
			Command: manual.Command{
				Name: "doctor", Args: "[flags]", About: "check a configuration and the server that runs with it", Settings: true,
				Flags: []config.Info{{Name: "url", Noun: "URL", Help: "where browsers reach the server"}, asJSON},
			},
			run: func(in invocation) int { return runDoctor(in.args, in.environ, in.stdout, in.stderr) },
		},
		{
			Command: manual.Command{
				Name: "healthcheck", Args: "[flags]", About: "ask the running server whether it is alive; for containers", Settings: true,
				Flags: []config.Info{{Name: "ready", Help: "ask whether its store can be read, too"}},
			},
			run: func(in invocation) int { return runHealthcheck(in.args, in.environ, in.stdout, in.stderr) },
		},
		{
			Command: manual.Command{
				Name: "sessions", Args: "list [USER] | revoke USER [ID]", About: "show sessions of a running server; end all of a user's, or one",
				Settings: true, Words: []string{"list", "revoke"},
				Flags: []config.Info{{Name: "admin-url", Noun: "URL", Help: "where the server has its admin listener"}, asJSON},
			},
			run: func(in invocation) int { return runSessions(in.args, in.environ, in.stdout, in.stderr) },
		},
		{
			Command: manual.Command{
				Name: "completion", Args: "bash|zsh|fish", About: "print the script by which a shell completes command lines", Words: manual.Shells,
			},
			run: func(in invocation) int { return runCompletion(in.args, in.stdout, in.stderr) },
		},
		{Command: manual.Command{Name: "man", About: "print the manual page, for man -l -"}, run: func(in invocation) int {
			return runMan(in.args, in.stdout, in.stderr)
		}},
		{Command: manual.Command{Name: "version", About: "print the version"}, run: func(in invocation) int {
			return runVersion(in.args, in.stdout, in.stderr)
		}},
		{Command: manual.Command{Name: "help", About: "print the commands"}, run: func(in invocation) int {
			return say(in.stdout, usage())
		}},
	}
}

// described returns what shells and the manual page know of the commands.
func described() []manual.Command {
	var all []manual.Command
	for _, c := range commands() {
		all = append(all, c.Command)
	}
	return all
}

// usage returns what the program prints about itself.
func usage() string {
	text := "coatcheck keeps sessions: an opaque ticket in a cookie, looked up in memory, revoked at once.\n\nUsage:\n"
	for _, c := range commands() {
		text += fmt.Sprintf("  coatcheck %-40s %s\n", c.Name+" "+c.Args, c.About)
	}
	return text + "\n\"coatcheck serve --help\" lists the flags.\n"
}

// run is main with the process's arguments, environment, signals and streams as parameters.
func run(args, environ []string, signals daemon.Signals, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 || args[0] == "" {
		say(stderr, usage())
		return exitUsage
	}
	name := args[0]
	switch {
	case name == "--version":
		name = "version"
	case config.AsksForHelp(name):
		name = "help"
	case name == hashJobs:
		return runHashJobs(stdin, stdout, stderr)
	}
	var known []string
	for _, c := range commands() {
		if c.Name == name {
			return c.run(invocation{args: args[1:], environ: environ, signals: signals, stdin: stdin, stdout: stdout, stderr: stderr})
		}
		known = append(known, c.Name)
	}
	say(stderr, fmt.Sprintf("coatcheck: %.40q is no command%s\n\n%s", name, suggest.DidYouMean(name, "", known), usage()))
	return exitUsage
}

// asksForHelp reports whether the arguments ask for help, for commands that take no flags of their own.
func asksForHelp(args []string) bool {
	return slices.ContainsFunc(args, config.AsksForHelp)
}

// refuseWords says that a command takes none of these arguments.
func refuseWords(command string, words []string, usage string, stderr io.Writer) int {
	say(stderr, fmt.Sprintf("coatcheck: %s: takes no arguments, and got %.100q\n\n%s", command, words, usage))
	return exitUsage
}

// say writes to the terminal and returns the exit code of a command that has nothing else to do.
func say(w io.Writer, text string) int {
	if _, err := io.WriteString(w, text); err != nil {
		return exitFailed
	}
	return exitOK
}
