package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/adminclient"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
)

const sessionsUsage = `Usage:
  coatcheck sessions list [flags]               the live sessions of all users, in no order
  coatcheck sessions list USER [flags]          the live sessions of a user, newest first
  coatcheck sessions revoke USER [ID] [flags]   end all of them, or the one with this handle or session ID

It asks the admin listener of a running server. A USER that begins with a dash is written behind --.

  --admin-url URL
        where the server has its admin listener (default: where --admin-listen says, http://127.0.0.1:3001 without that)
  --admin-key-file file
        file whose first key is presented, where the server asks for one; also COATCHECK_ADMIN_KEY_FILE
  --json
        print JSON, as the admin API answers it

It takes the flags, the environment and the file of "coatcheck serve" too, and uses --admin-listen and --admin-key-file of them.
`

// sessionsCall is what the arguments of `coatcheck sessions` ask for.
type sessionsCall struct {
	revoke   bool
	user, id string // either may be empty: all users, all sessions
	json     bool
	url      string
	keyFile  string
}

// runSessions lists or ends a user's sessions on a running server.
func runSessions(args, environ []string, stdout, stderr io.Writer) int {
	call, err := parseSessions(args, environ)
	if errors.Is(err, config.ErrHelp) {
		return say(stdout, sessionsUsage)
	}
	var client *adminclient.Client
	if err == nil {
		client, err = adminclient.New(call.url, call.keyFile)
	}
	if err != nil {
		say(stderr, fmt.Sprintf("coatcheck: sessions: %v\n\n%s", err, sessionsUsage))
		return exitUsage
	}
	var text string
	if ctx := context.Background(); call.user == "" { // the client bounds each request
		err = call.listAll(ctx, client, stdout, progressOn(stderr))
	} else {
		text, err = call.run(ctx, client)
	}
	if err != nil {
		say(stderr, fmt.Sprintf("coatcheck: sessions: %v\n", err))
		return exitFailed
	}
	return say(stdout, text)
}

// parseSessions returns what to do. Its error is config.ErrHelp, or all mistakes.
func parseSessions(args, environ []string) (*sessionsCall, error) {
	call := new(sessionsCall)
	c, rest, err := config.LoadOnly(adminSettings, idsLast(args), environ,
		config.Text("admin-url", "URL", &call.url), config.Switch("json", &call.json))
	switch {
	case err != nil:
		return nil, err
	case len(rest) == 0 || rest[0] != "list" && rest[0] != "revoke":
		return nil, errors.New("it is list or revoke")
	case len(rest) == 1 && rest[0] == "revoke":
		return nil, errors.New("revoke needs a user")
	case len(rest) > 1 && rest[1] == "": // a variable of a script that is empty must not mean all users
		return nil, fmt.Errorf("%s: the user is empty", rest[0])
	case len(rest) == 3 && rest[0] == "revoke" && rest[2] == "": // likewise, not all of the user's sessions
		return nil, errors.New("revoke: the session is empty")
	case len(rest) > 3 || len(rest) == 3 && rest[0] == "list":
		return nil, errors.New("too many arguments; a user ID with spaces is one argument, between quotes")
	}
	call.revoke, call.keyFile = rest[0] == "revoke", c.AdminKeyFile
	if len(rest) > 1 {
		call.user = rest[1]
	}
	if len(rest) == 3 {
		call.id = rest[2]
	}
	if call.url == "" {
		call.url = adminclient.URL(c.AdminListen)
	}
	if call.url == "" {
		return nil, fmt.Errorf("--admin-listen %s cannot be asked: say with --admin-url where the server has its admin listener", c.AdminListen)
	}
	return call, nil
}

// idsLast moves arguments that are session IDs and begin with a dash, as one in 64 does, to where they are not taken for
// flags.
func idsLast(args []string) []string {
	if slices.Contains(args, "--") {
		return args
	}
	var others, ids []string
	for _, arg := range args {
		if _, ok := coatcheck.ParseID([]byte(arg)); ok && strings.HasPrefix(arg, "-") {
			ids = append(ids, arg)
		} else {
			others = append(others, arg)
		}
	}
	return slices.Concat(others, []string{"--"}, ids)
}

// run sends the requests and returns the text to print.
func (call *sessionsCall) run(ctx context.Context, client *adminclient.Client) (string, error) {
	switch {
	case call.id != "":
		if err := client.End(ctx, call.user, call.id); err != nil {
			return "", err
		}
		return call.ended(1), nil
	case call.revoke:
		n, err := client.EndUser(ctx, call.user)
		if err != nil {
			return "", err
		}
		return call.ended(n), nil
	}
	sessions, body, err := client.Sessions(ctx, call.user)
	switch {
	case err != nil:
		return "", err
	case call.json:
		return strings.TrimSpace(string(body)) + "\n", nil
	default:
		return sessionTable(call.user, sessions), nil
	}
}

func (call *sessionsCall) ended(n int) string {
	switch {
	case call.json:
		return fmt.Sprintf("{\"revoked\":%d}\n", n)
	case n == 1:
		return "1 session ended\n"
	default:
		return fmt.Sprintf("%d sessions ended\n", n)
	}
}

func sessionTable(user string, sessions []adminclient.Session) string {
	if len(sessions) == 0 {
		return fmt.Sprintf("%s has no live session\n", adminclient.Printable(user))
	}
	rows := [][]string{sessionColumns}
	for _, s := range sessions {
		rows = append(rows, sessionRow(s))
	}
	return table(rows)
}

var sessionColumns = []string{"HANDLE", "SESSION ID", "CREATED", "LAST SEEN", "EXPIRES", "BOUND", "BEGAN AT", "ADDRESS", "BROWSER"}

func sessionRow(s adminclient.Session) []string {
	bound := "no"
	if s.Bound {
		bound = "yes"
	}
	return []string{
		adminclient.Printable(s.Handle), adminclient.Printable(s.SessionID), s.CreatedAt.Format(time.RFC3339), s.LastSeenAt.Format(time.RFC3339),
		s.ExpiresAt.Format(time.RFC3339), bound, adminclient.Printable(s.CreatedIP), adminclient.Printable(s.IP), adminclient.Printable(s.UserAgent),
	}
}

// table puts rows of cells into columns.
func table(rows [][]string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, cells := range rows {
		fmt.Fprintln(w, strings.Join(cells, "\t")) //nolint:errcheck // a strings.Builder takes everything
	}
	_ = w.Flush() // likewise
	return b.String()
}
