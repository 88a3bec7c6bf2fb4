package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// cookieName is the session cookie's under --dev.
const cookieName = "coatcheck"

// client sends requests to the server, and reads the parts of its answers that the checks need.
type client struct {
	http  *http.Client
	url   string
	admin string
	tally *tally
}

func newClient(url, admin string, t *tally) *client {
	// The client closes an idle connection before the server would: a request on a connection that the server closes at that moment
	// fails, and neither side is at fault.
	transport := &http.Transport{MaxIdleConnsPerHost: workers, IdleConnTimeout: 20 * time.Second, DisableCompression: true}
	return &client{&http.Client{Transport: transport, Timeout: 10 * time.Second}, url, admin, t}
}

// answer is the part of an answer that a visitor sees.
type answer struct {
	status  int
	token   string // that was set
	cleared bool
	view    struct {
		Authenticated bool   `json:"authenticated"`
		UserID        string `json:"user_id"`
		Refreshed     bool   `json:"refreshed"`
	}
	revoked  int
	sessions int
	sent     time.Time
	back     time.Time
}

// ask sends a request with the token, if there is one. A request without an answer counts as a fault, and so does a 503 while the
// store is available. In these cases, and for every other 503, ok is false.
func (c *client) ask(ctx context.Context, method, path, token, body string) (a answer, ok bool) {
	url := c.url + path
	if strings.HasPrefix(path, "/admin/") {
		url = c.admin + path
	}
	var in io.Reader = http.NoBody
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, in)
	if err != nil {
		c.tally.fault("%s %s: %v", method, path, err)
		return a, false
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Cookie", cookieName+"="+token)
	}
	a.sent = time.Now()
	resp, err := c.http.Do(req)
	if err == nil {
		err = a.read(resp)
	}
	a.back = time.Now()
	switch {
	case ctx.Err() != nil:
		return a, false // the run is over
	case err != nil:
		c.tally.fault("%s %s: %v", method, path, err)
		return a, false
	}
	c.tally.answered(a.back.Sub(a.sent))
	if a.status == http.StatusServiceUnavailable {
		if !c.tally.unavailable(a.sent) {
			c.tally.fault("%s %s: 503 although the store is there", method, path)
		}
		if a.token != "" || a.cleared {
			c.tally.fault("%s %s: 503 with a cookie", method, path)
		}
		return a, false
	}
	return a, true
}

func (a *answer) read(resp *http.Response) error {
	defer resp.Body.Close() //nolint:errcheck // it was read to its end
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	a.status = resp.StatusCode
	set := resp.Cookies()
	if len(set) > 1 {
		return fmt.Errorf("%d cookies in one answer", len(set))
	}
	for _, k := range set {
		a.token, a.cleared = k.Value, k.MaxAge < 0
	}
	if resp.StatusCode >= 300 || len(body) == 0 {
		return nil
	}
	var list struct {
		Sessions []json.RawMessage `json:"sessions"`
		Revoked  int               `json:"revoked"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return fmt.Errorf("%s: %w", body, err)
	}
	a.sessions, a.revoked = len(list.Sessions), list.Revoked
	return json.Unmarshal(body, &a.view)
}
