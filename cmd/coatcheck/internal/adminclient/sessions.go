package adminclient

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Session is what the admin API shows of a session.
type Session struct {
	UserID     string `json:"user_id"` // only in a list of the sessions of all users
	Handle     string
	SessionID  string `json:"session_id"`
	Bound      bool
	CreatedAt  time.Time `json:"created_at"`
	CreatedIP  string    `json:"created_ip"`
	LastSeenAt time.Time `json:"last_seen_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	IP         string
	UserAgent  string `json:"user_agent"`
}

// Sessions returns the live sessions of a user, newest first, and the JSON that lists them.
func (c *Client) Sessions(ctx context.Context, user string) ([]Session, []byte, error) {
	status, body, err := c.Do(ctx, http.MethodGet, UserPath(user))
	if err != nil {
		return nil, nil, err
	}
	if status != http.StatusOK {
		return nil, nil, c.Refused(status, body)
	}
	var answer struct{ Sessions []Session }
	if json.Unmarshal(body, &answer) != nil || answer.Sessions == nil {
		return nil, nil, c.Refused(status, nil)
	}
	return answer.Sessions, body, nil
}

// Page is a part of the list of the sessions of all users.
type Page struct {
	Sessions []Session
	JSON     []json.RawMessage // the same, as the admin API shows them
}

// AllSessions calls yield for each page of the live sessions of all users. Its errors are those of the requests, and of yield.
func (c *Client) AllSessions(ctx context.Context, yield func(Page) error) error {
	const first = "/admin/sessions"
	for path := first; ; {
		status, body, err := c.Do(ctx, http.MethodGet, path)
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return c.Refused(status, body)
		}
		var answer struct {
			Sessions []json.RawMessage
			Next     string
		}
		if json.Unmarshal(body, &answer) != nil || answer.Sessions == nil {
			return c.Refused(status, nil)
		}
		page := Page{make([]Session, len(answer.Sessions)), answer.Sessions}
		for i, raw := range answer.Sessions {
			if json.Unmarshal(raw, &page.Sessions[i]) != nil {
				return c.Refused(status, nil)
			}
		}
		if err := yield(page); err != nil {
			return err
		}
		next := first + "?cursor=" + url.QueryEscape(answer.Next)
		switch {
		case answer.Next == "":
			return nil
		case next == path:
			return fmt.Errorf("%s leads from a page to the same page again", c.base)
		}
		path = next
	}
}

// EndUser ends all sessions of a user and returns how many there were. It waits for as long as the server may take, which is longer
// than for anything else where the server has to look for the sessions in all of Redis.
func (c *Client) EndUser(ctx context.Context, user string) (int, error) {
	status, body, err := c.do(ctx, endUserTimeout, http.MethodDelete, UserPath(user))
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK {
		return 0, c.Refused(status, body)
	}
	var answer struct{ Revoked *int }
	if json.Unmarshal(body, &answer) != nil || answer.Revoked == nil {
		return 0, c.Refused(status, nil)
	}
	return *answer.Revoked, nil
}

// End ends the session of a user with this handle or session ID.
func (c *Client) End(ctx context.Context, user, id string) error {
	status, body, err := c.Do(ctx, http.MethodDelete, UserPath(user)+"/"+pathSegment(id))
	if err == nil && status != http.StatusNoContent {
		err = c.Refused(status, body)
	}
	return err
}

// UserPath is the path of a user's sessions. Every byte that is not plain is percent-encoded, dots too, because a path
// segment of dots means another path.
func UserPath(user string) string { return "/admin/users/" + pathSegment(user) + "/sessions" }

func pathSegment(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
