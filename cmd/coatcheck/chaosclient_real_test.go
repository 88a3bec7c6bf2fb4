//go:build real && linux

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// fate is what a client knows of a session.
type fate int

const (
	lives   fate = iota
	unknown      // a request was to end it, and no answer said whether it did
	ended
)

type chaosSession struct {
	user, cookie string
	fate         fate
}

// chaosClient sends one request at a time and remembers what it was told. Its sessions are of users that no other client knows.
type chaosClient struct {
	*chaos
	number, users int
	http          *http.Client
	sessions      []*chaosSession
	mine          []*chaosSession // those of the current user
	acked         map[string]int  // by event and user
	answers       map[string]int  // by operation and status
}

func (c *chaosClient) user() string {
	return fmt.Sprintf("%d-%d-%s", c.number, c.users, strings.Repeat("x", 200)) // long, so that a stalled log fills up
}

// send returns the status, the body and the cookie that was sent; the status is 0 without an answer.
func (c *chaosClient) send(t *testing.T, what, method, url, cookie, body string) (status int, text, sent string) {
	req, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if !assert.NoError(t, err) {
		return 0, "", ""
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Cookie", cookie)
	if what == "login" {
		req.Header.Set("Authorization", "Bearer "+chaosKey)
	}
	resp, err := c.http.Do(req)
	if err == nil {
		var raw []byte
		raw, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close() // it was read to its end, or the error counts
		status, text = resp.StatusCode, string(raw)
	}
	if err != nil {
		c.answers[what+" none"]++
		return 0, "", ""
	}
	c.answers[fmt.Sprint(what, " ", status)]++
	for _, got := range resp.Cookies() {
		sent = got.Name + "=" + got.Value
		assert.Less(t, status, 300, "%s: a failure leaves the cookie alone", what)
	}
	if status != http.StatusServiceUnavailable && (status >= 300 && status != http.StatusTooManyRequests || status == http.StatusTooManyRequests && what != "others") {
		assert.Fail(t, "not an answer that a fault explains", "%s: %d %s", what, status, text)
	}
	return status, text, sent
}

// step does one thing with one session of the current user.
func (c *chaosClient) step(t *testing.T) {
	if len(c.mine) == 0 || len(c.mine) < 8 && rand.IntN(4) == 0 { //nolint:gosec // load, no secret
		c.login(t)
		return
	}
	s := c.mine[rand.IntN(len(c.mine))] //nolint:gosec // likewise
	if s.fate != lives {
		c.look(t, s)
		c.nextUser()
		return
	}
	switch rand.IntN(40) { //nolint:gosec // likewise
	default:
		c.look(t, s)
	case 0, 1, 2, 3, 4, 5, 6, 7, 8, 9:
		c.refresh(t, s)
	case 10, 11, 12, 13:
		c.logout(t, s)
	case 14, 15:
		c.endOthers(t, s)
	case 16:
		c.revoke(t)
	}
}

// nextUser goes on with a new user now and then, so that nobody reaches the limit of sessions with logins whose answer was lost.
func (c *chaosClient) nextUser() {
	for _, s := range c.mine {
		if s.fate == lives && len(c.mine) < 8 {
			return
		}
	}
	c.users++
	c.mine = nil
}

func (c *chaosClient) login(t *testing.T) {
	user := c.user()
	status, _, cookie := c.send(t, "login", "POST", c.url+"/auth/login", "", `{"user_id":"`+user+`"}`)
	if status != http.StatusOK {
		return
	}
	assert.NotEmpty(t, cookie)
	s := &chaosSession{user: user, cookie: cookie}
	c.sessions, c.mine = append(c.sessions, s), append(c.mine, s)
	c.acked["login "+user]++
}

// look checks that the server, if it answers, agrees with the client about the session.
func (c *chaosClient) look(t *testing.T, s *chaosSession) (answered bool) {
	status, text, _ := c.send(t, "me", "GET", c.url+"/auth/me", s.cookie, "")
	if status == http.StatusOK {
		c.judge(t, "me", s, text)
	}
	return status == http.StatusOK
}

func (c *chaosClient) judge(t *testing.T, what string, s *chaosSession, view string) {
	in := strings.Contains(view, `"user_id":"`+s.user+`"`)
	switch s.fate {
	case lives:
		assert.True(t, in, "%s: a live session of %.10s was signed out: %s", what, s.user, view)
	case ended:
		assert.False(t, in, "%s: a session of %.10s that has ended lives", what, s.user)
	case unknown:
	}
}

// refresh keeps the old token when no new one comes: it opens the session until the new one is used.
func (c *chaosClient) refresh(t *testing.T, s *chaosSession) {
	status, text, sent := c.send(t, "refresh", "POST", c.url+"/auth/refresh", s.cookie, "")
	if status == http.StatusOK {
		c.judge(t, "refresh", s, text)
	}
	if sent != "" {
		s.cookie = sent
	}
}

func (c *chaosClient) logout(t *testing.T, s *chaosSession) {
	status, _, _ := c.send(t, "logout", "POST", c.url+"/auth/logout", s.cookie, "")
	s.fate = unknown
	if status == http.StatusNoContent {
		s.fate = ended
		c.acked["logout "+s.user]++
	}
}

func (c *chaosClient) endOthers(t *testing.T, but *chaosSession) {
	status, text, _ := c.send(t, "others", "DELETE", c.url+"/auth/sessions", but.cookie, "")
	if status != http.StatusTooManyRequests {
		c.endAll(status, text, but)
	}
}

func (c *chaosClient) revoke(t *testing.T) {
	status, text, _ := c.send(t, "revoke", "DELETE", c.admin+"/admin/users/"+c.user()+"/sessions", "", "")
	c.endAll(status, text, nil)
}

// endAll notes what an answer says of all sessions of the current user but one.
func (c *chaosClient) endAll(status int, text string, but *chaosSession) {
	for _, s := range c.mine {
		switch {
		case s == but:
		case status == http.StatusOK:
			s.fate = ended
		case s.fate == lives:
			s.fate = unknown
		}
	}
	if status == http.StatusOK && text != `{"revoked":0}` {
		c.acked["revoke "+c.user()]++
	}
}

// settle asks about each session until the server answers.
func (c *chaosClient) settle(t *testing.T) {
	for _, s := range c.sessions {
		for until := time.Now().Add(patience); !c.look(t, s); time.Sleep(50 * time.Millisecond) {
			if !assert.True(t, time.Now().Before(until), "the server recovers") {
				return
			}
		}
		if t.Failed() {
			return
		}
	}
}
