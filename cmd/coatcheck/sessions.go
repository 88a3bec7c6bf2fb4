package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/adminclient"
)

const sessionsUsage = `Usage:
  coatcheck sessions list USER [flags]          the live sessions of a user, newest first
  coatcheck sessions revoke USER [ID] [flags]   end all of them, or the one with this handle or session ID

It asks the admin listener of a running server. A USER that begins with a dash is written behind --.

  --admin-url URL
        where the server has its admin listener (default http://127.0.0.1:3001)
  --admin-key-file file
        file whose first key is presented, where the server asks for one; also COATCHECK_ADMIN_KEY_FILE
  --json
        print JSON, as the admin API answers it
`

// sessionsCall is what `coatcheck sessions` was told to do.
type sessionsCall struct {
	revoke   bool
	user, id string // id may be empty
	json     bool
	url      string
	keyFile  string
}

// runSessions lists or ends the sessions of a user of a running server.
func runSessions(args, environ []string, stdout, stderr io.Writer) int {
	call, err := parseSessions(args, environ)
	if errors.Is(err, pflag.ErrHelp) {
		return say(stdout, sessionsUsage)
	}
	var api *adminclient.Client
	if err == nil {
		api, err = adminclient.New(call.url, call.keyFile)
	}
	if err != nil {
		say(stderr, fmt.Sprintf("coatcheck: sessions: %v\n\n%s", err, sessionsUsage))
		return exitUsage
	}
	ctx, cancel := context.WithTimeout(context.Background(), adminclient.Timeout)
	defer cancel()
	text, err := call.run(ctx, api)
	if err != nil {
		say(stderr, fmt.Sprintf("coatcheck: sessions: %v\n", err))
		return exitFailed
	}
	return say(stdout, text)
}

func parseSessions(args, environ []string) (*sessionsCall, error) {
	call := new(sessionsCall)
	fs := pflag.NewFlagSet("sessions", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&call.url, "admin-url", "http://127.0.0.1:3001", "")
	fs.StringVar(&call.keyFile, "admin-key-file", variable(environ, "COATCHECK_ADMIN_KEY_FILE"), "")
	fs.BoolVar(&call.json, "json", false, "")
	if err := fs.Parse(idsLast(args)); err != nil {
		return nil, err
	}
	args = fs.Args()
	switch {
	case len(args) == 0 || args[0] != "list" && args[0] != "revoke":
		return nil, errors.New("it is list or revoke")
	case len(args) == 1 || args[1] == "":
		return nil, fmt.Errorf("%s needs a user", args[0])
	case len(args) > 3 || len(args) == 3 && (args[0] == "list" || args[2] == ""):
		return nil, errors.New("too many arguments; a user ID with spaces is one argument, between quotes")
	}
	call.revoke, call.user = args[0] == "revoke", args[1]
	if len(args) == 3 {
		call.id = args[2]
	}
	return call, nil
}

// idsLast puts arguments that are session IDs and begin with a dash, as one in 64 does, where they are not taken for flags.
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

// variable returns the value of an environment variable, the last one if it stands there twice.
func variable(environ []string, name string) (value string) {
	for _, pair := range environ {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			value = v
		}
	}
	return value
}

// run returns what to print.
func (call *sessionsCall) run(ctx context.Context, api *adminclient.Client) (string, error) {
	method, path := http.MethodGet, adminclient.UserPath(call.user)
	if call.revoke {
		method = http.MethodDelete
	}
	if call.id != "" {
		path += "/" + adminclient.PathSegment(call.id)
	}
	status, body, err := api.Do(ctx, method, path)
	switch {
	case err != nil:
		return "", err
	case call.id != "" && status == http.StatusNoContent:
		return call.ended(1), nil
	case call.id != "" || status != http.StatusOK:
		return "", api.Refused(status, body)
	case call.revoke:
		var answer struct{ Revoked *int }
		if json.Unmarshal(body, &answer) != nil || answer.Revoked == nil {
			return "", api.Refused(status, nil)
		}
		return call.ended(*answer.Revoked), nil
	}
	var answer struct{ Sessions []listedSession }
	if json.Unmarshal(body, &answer) != nil || answer.Sessions == nil {
		return "", api.Refused(status, nil)
	}
	if call.json {
		return strings.TrimSpace(string(body)) + "\n", nil
	}
	return table(call.user, answer.Sessions), nil
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

// listedSession is what is shown of a session.
type listedSession struct {
	Handle     string
	SessionID  string    `json:"session_id"`
	CreatedAt  time.Time `json:"created_at"`
	LastSeenAt time.Time `json:"last_seen_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	IP         string
	UserAgent  string `json:"user_agent"`
}

func table(user string, sessions []listedSession) string {
	if len(sessions) == 0 {
		return fmt.Sprintf("%s has no live session\n", adminclient.Printable(user))
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")) } //nolint:errcheck // a strings.Builder takes everything
	row("HANDLE", "SESSION ID", "CREATED", "LAST SEEN", "EXPIRES", "ADDRESS", "BROWSER")
	for _, s := range sessions {
		row(adminclient.Printable(s.Handle), adminclient.Printable(s.SessionID), s.CreatedAt.Format(time.RFC3339), s.LastSeenAt.Format(time.RFC3339),
			s.ExpiresAt.Format(time.RFC3339), adminclient.Printable(s.IP), adminclient.Printable(s.UserAgent))
	}
	_ = w.Flush() // likewise
	return b.String()
}
