package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"

	twins "github.com/coatcheck/coatcheck/bench/peers/internal/peer"
)

// walk takes one user through the routes, so that no server is measured that answers wrongly. It returns what was answered, by
// method and path.
func walk(address string) (map[string]*answer, error) {
	c, err := dial(address)
	if err != nil {
		return nil, err
	}
	defer c.close()
	w := &walker{client: c, answers: map[string]*answer{}}
	w.step("me without a cookie", http.MethodGet, "/auth/me", "")
	w.expect(view{})
	w.step("login", http.MethodPost, "/auth/login", loginBody(1))
	first := w.cookie
	user := userID(1)
	w.expect(view{Authenticated: true, UserID: &user})
	w.step("me", http.MethodGet, "/auth/me", "")
	w.expect(view{Authenticated: true, UserID: &user})
	w.step("refresh", http.MethodPost, "/auth/refresh", "")
	w.expect(view{Authenticated: true, UserID: &user, Refreshed: true})
	if w.err == nil && w.cookie == first {
		w.err = errors.New("refresh left the cookie as it was")
	}
	answers := w.answers
	w.answers = map[string]*answer{} // the twins do not need the answers that follow
	w.step("me after refresh", http.MethodGet, "/auth/me", "")
	w.expect(view{Authenticated: true, UserID: &user, Refreshed: true})
	ended := w.cookie
	w.step("logout", http.MethodPost, "/auth/logout", "")
	w.cookie = ended
	w.step("me after logout", http.MethodGet, "/auth/me", "")
	w.expect(view{})
	return answers, w.err
}

// walker keeps the cookie, and the first mistake.
type walker struct {
	client  *client
	cookie  string
	name    string
	last    *answer
	answers map[string]*answer
	err     error
}

func (w *walker) step(name, method, path, body string) {
	if w.err != nil {
		return
	}
	w.name = name
	if w.last, w.err = w.client.do(method, path, w.cookie, body); w.err != nil {
		w.err = fmt.Errorf("%s: %w", name, w.err)
		return
	}
	if cookie, err := w.last.cookie(); err == nil {
		w.cookie = cookie
	}
	w.answers[method+" "+path] = w.last
	if path == "/auth/logout" && w.last.status != http.StatusNoContent {
		w.err = fmt.Errorf("logout: status %d: %.200s", w.last.status, w.last.body)
	}
}

// expect compares the last view; the session ID of an authenticated one may be anything but empty.
func (w *walker) expect(want view) {
	if w.err != nil {
		return
	}
	got, err := w.last.view()
	switch {
	case err != nil:
		w.err = fmt.Errorf("%s: %w", w.name, err)
	case got.Authenticated != want.Authenticated || got.Refreshed != want.Refreshed || !same(got.UserID, want.UserID):
		w.err = fmt.Errorf("%s: %s", w.name, w.last.body)
	case want.Authenticated && (got.SessionID == nil || *got.SessionID == ""):
		w.err = fmt.Errorf("%s: no session_id: %s", w.name, w.last.body)
	}
}

func same(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

// record writes the answers for the twins.
func record(answers map[string]*answer, file string) error {
	canned := map[string]twins.Answer{}
	for route, a := range answers {
		c := twins.Answer{Status: a.status, Body: string(a.body)}
		for name, values := range a.header {
			if name != "Date" && name != "Content-Length" {
				c.Headers = append(c.Headers, [2]string{name, strings.Join(values, ", ")})
			}
		}
		slices.SortFunc(c.Headers, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
		canned[route] = c
	}
	data, err := json.Marshal(canned)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

// checkTwin reports whether the server at address answers GET /auth/me as coatcheck did, with the same header lines.
func checkTwin(address string, like *answer) error {
	c, err := dial(address)
	if err != nil {
		return err
	}
	defer c.close()
	got, err := c.do(http.MethodGet, "/auth/me", "a=b", "")
	if err != nil {
		return err
	}
	if g, w := essence(got.raw), essence(like.raw); g != w {
		return fmt.Errorf("it answers\n%s\nand coatcheck\n%s", g, w)
	}
	return nil
}

var dateLine = regexp.MustCompile(`(?im)^date:.*\r\n`)

// essence is a response with its header lines sorted and the date removed.
func essence(raw []byte) string {
	head, body, _ := bytes.Cut(dateLine.ReplaceAll(raw, nil), []byte("\r\n\r\n"))
	lines := strings.Split(string(head), "\r\n")
	slices.Sort(lines[1:])
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + string(body)
}

// checkLive reports whether every cookie still names a live session, so that what was measured was the answer to a known user.
func checkLive(address string, cookies []string) error {
	c, err := dial(address)
	if err != nil {
		return err
	}
	defer c.close()
	for i, cookie := range cookies {
		a, err := c.do(http.MethodGet, "/auth/me", cookie, "")
		if err != nil {
			return err
		}
		if v, err := a.view(); err != nil || !v.Authenticated {
			return fmt.Errorf("session %d of %d did not live through the measurement: %.200s", i+1, len(cookies), a.body)
		}
	}
	return nil
}
