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

const usage = `coatcheck keeps sessions: an opaque ticket in a cookie, looked up in memory, revoked at once.

Usage:
  coatcheck serve [flags]                   start the server; "coatcheck serve --dev" to try it out
  coatcheck hash-password --user NAME       print the line of --users-file for a password, from the terminal or stdin; the
                                            user's claims by --groups A,B, --email and --name
  coatcheck data verify DIR                 check what a server left in --data-dir, and count its sessions
  coatcheck doctor [flags]                  check a configuration and the server that runs with it
  coatcheck healthcheck [flags]             ask the running server whether it is alive; for containers
  coatcheck sessions list [USER]            show the sessions of a user, or of all, of a running server
  coatcheck sessions revoke USER [ID]       end all of them, or one
  coatcheck completion bash|zsh|fish        print the script by which a shell completes command lines
  coatcheck man                             print the manual page, for man -l -
  coatcheck version                         print the version

"coatcheck serve --help" lists the flags.
`

// commands are those for people, in the order of usage; shells, the manual page and the suggestions for a wrong
// word have them from here.
var commands = []manual.Command{
	{Name: "serve", Args: "[flags]", About: "start the server", Settings: true},
	{
		Name: "hash-password", Args: "--user NAME", About: "print the line of --users-file for a password, from the terminal or stdin",
		Flags: []config.Info{
			{Name: "user", Noun: "NAME", Help: "the user's name"},
			{Name: "name", Noun: "TEXT", Help: "what others call the user"},
			{Name: "email", Noun: "ADDRESS", Help: "the user's e-mail address"},
			{Name: "groups", Noun: "A,B", Help: "the groups that the user is in"},
		},
	},
	{Name: "data", Args: "verify DIR", About: "check what a server left in --data-dir, and count its sessions", Words: []string{"verify"}, Settings: true},
	{
		Name: "doctor", Args: "[flags]", About: "check a configuration and the server that runs with it", Settings: true,
		Flags: []config.Info{{Name: "url", Noun: "URL", Help: "where browsers reach the server"}, {Name: "json", Help: "print JSON"}},
	},
	{
		Name: "healthcheck", Args: "[flags]", About: "ask the running server whether it is alive; for containers", Settings: true,
		Flags: []config.Info{{Name: "ready", Help: "ask whether its store can be read, too"}},
	},
	{
		Name: "sessions", Args: "list|revoke USER [ID]", About: "show or end the sessions of a user of a running server", Settings: true,
		Words: []string{"list", "revoke"},
		Flags: []config.Info{{Name: "admin-url", Noun: "URL", Help: "where the server has its admin listener"}, {Name: "json", Help: "print JSON"}},
	},
	{Name: "completion", Args: "bash|zsh|fish", About: "print the script by which a shell completes command lines", Words: manual.Shells},
	{Name: "man", About: "print the manual page, for man -l -"},
	{Name: "version", About: "print the version"},
	{Name: "help", About: "print the commands"},
}

// run is main with the process's arguments, environment, signals and streams as parameters.
func run(args, environ []string, signals daemon.Signals, stdin io.Reader, stdout, stderr io.Writer) int {
	command := ""
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	switch command {
	case "serve":
		return runServe(args, environ, signals, stdout, stderr)
	case "hash-password":
		return runHashPassword(args, stdin, stdout, stderr)
	case "data":
		return runData(args, environ, stdout, stderr)
	case "doctor":
		return runDoctor(args, environ, stdout, stderr)
	case "healthcheck":
		return runHealthcheck(args, environ, stdout, stderr)
	case "sessions":
		return runSessions(args, environ, stdout, stderr)
	case "completion":
		return runCompletion(args, stdout, stderr)
	case "man":
		return runMan(args, stdout)
	case hashJobs:
		return runHashJobs(stdin, stdout, stderr)
	case "version", "--version":
		return runVersion(args, stdout)
	case "help", "--help", "-h":
		return say(stdout, usage)
	case "":
		say(stderr, usage)
	default:
		var known []string
		for i := range commands {
			known = append(known, commands[i].Name)
		}
		say(stderr, fmt.Sprintf("coatcheck: %.40q is no command%s\n\n%s", command, suggest.DidYouMean(command, "", known), usage))
	}
	return exitUsage
}

// asksForHelp reports whether the arguments ask for help, for commands that take no flags of their own.
func asksForHelp(args []string) bool {
	return slices.Contains(args, "--help") || slices.Contains(args, "-h")
}

// say writes to the terminal and returns the exit code of a command that has nothing else to do.
func say(w io.Writer, text string) int {
	if _, err := io.WriteString(w, text); err != nil {
		return exitFailed
	}
	return exitOK
}
