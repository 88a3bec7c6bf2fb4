package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/server/login"
)

const hashPasswordUsage = `Usage:
  coatcheck hash-password --user NAME [--name TEXT] [--email ADDRESS] [--groups A,B]

Prints the line of --users-file for a user's password, which it reads from the terminal, unseen, or from the first line of
standard input, and for what is known of the user.
`

// runHashPassword prints the users-file line for a password and for what is known of the user. The password comes from the
// terminal, unseen, or from the first line of standard input.
func runHashPassword(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var user string
	var fields login.Fields
	rest, err := config.ReadFlags(args, config.Text("user", "NAME", &user), config.Text("name", "TEXT", &fields.Name),
		config.Text("email", "ADDRESS", &fields.Email), config.CSV("groups", &fields.Groups))
	switch {
	case errors.Is(err, config.ErrHelp):
		return say(stdout, hashPasswordUsage)
	case errors.Is(err, config.ErrCSV):
		say(stderr, fmt.Sprintf("coatcheck: hash-password: --groups: %v\n", config.ErrCSV))
		return exitUsage
	case err != nil || len(rest) > 0 || user == "":
		// The argument is not repeated, because it may be the password.
		say(stderr, "coatcheck: hash-password takes --user NAME, --groups, --email and --name and nothing else, and flags begin with two dashes; "+
			"it reads the password from the terminal or standard input\n")
		return exitUsage
	}
	password, err := readPassword(stdin, stderr)
	if err == nil {
		var line string
		if line, err = login.UsersLine(user, password, fields); err == nil {
			return say(stdout, line+"\n")
		}
	}
	say(stderr, fmt.Sprintf("coatcheck: hash-password: %v\n", err))
	return exitFailed
}

// readPassword asks twice at a terminal. Anywhere else the password is one line, without its line break.
func readPassword(stdin io.Reader, stderr io.Writer) ([]byte, error) {
	if f, ok := stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		first, err := ask(f, stderr, "Password: ")
		if err != nil {
			return nil, err
		}
		second, err := ask(f, stderr, "Again: ")
		if err == nil && !bytes.Equal(first, second) {
			err = errors.New("the two passwords are not the same")
		}
		return first, err
	}
	line, err := bufio.NewReader(io.LimitReader(stdin, login.MaxPassword+2)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading standard input: %w", err)
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), nil
}

// ask reads a password at the terminal, which does not show it.
func ask(f *os.File, stderr io.Writer, prompt string) ([]byte, error) {
	fd := int(f.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("reading the terminal: %w", err)
	}
	defer showAgainAtSignal(fd, before)()
	say(stderr, prompt)
	password, err := term.ReadPassword(fd)
	say(stderr, "\n")
	if err != nil {
		return nil, fmt.Errorf("reading the terminal: %w", err)
	}
	return password, nil
}

// showAgainAtSignal makes a signal end the process as it would have done anyway, but with the terminal as it was before: else the shell
// would go on with one that shows nothing of what is typed. The function that it returns ends that.
func showAgainAtSignal(fd int, before *term.State) (stop func()) {
	signals, over := make(chan os.Signal, 1), make(chan struct{})
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			signal.Notify(signals, sig)
		}
	}
	go func() {
		select {
		case sig := <-signals:
			_ = term.Restore(fd, before) // if it fails there is nobody to tell
			signal.Reset(sig)
			if self, err := os.FindProcess(os.Getpid()); err == nil {
				_ = self.Signal(sig) // ends the process
			}
		case <-over:
		}
	}()
	return func() {
		signal.Stop(signals)
		close(over)
	}
}
