// Package adminclient asks the admin listener of a running server.
package adminclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/coatcheck/coatcheck/server/login"
)

const (
	// Timeout bounds a whole request to a running server.
	Timeout = 10 * time.Second
	// MaxAnswer bounds what is read of an answer: the sessions of a user who has some 40,000.
	MaxAnswer = 16 << 20
)

// Client speaks to the admin listener of a running server.
type Client struct {
	base   string // without a slash at its end
	key    string // empty: none
	client *http.Client
}

// New takes the first key of keyFile, if one is named.
func New(base, keyFile string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("--admin-url: not a URL such as http://127.0.0.1:3001")
	}
	api := &Client{base: strings.TrimSuffix(base, "/"), client: NewHTTPClient()}
	if keyFile != "" {
		if api.key, err = login.FirstKey(keyFile); err != nil {
			return nil, fmt.Errorf("--admin-key-file: %w", err)
		}
	}
	return api, nil
}

// NewHTTPClient follows no redirect, because the next server would get the key or believe the answer to be the first one's; and
// asks no proxy, because what it talks to is near.
func NewHTTPClient() *http.Client {
	return &http.Client{
		Timeout:       Timeout,
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Do sends a request and returns the answer's status and body. A status is no error; an error says who did not answer.
func (a *Client) Do(ctx context.Context, method, path string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	if a.key != "" {
		req.Header.Set("Authorization", "Bearer "+a.key)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, nil, a.unreached(err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, MaxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, a.unreached(err)
	case len(body) > MaxAnswer:
		return 0, nil, fmt.Errorf("%s answers with more than %d MiB", a.base, MaxAnswer>>20)
	}
	return resp.StatusCode, body, nil
}

// unreached says why there is no answer. The URL that net/http repeats in its errors says nothing more.
func (a *Client) unreached(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody listens at %s: is the server running, and is that its --admin-listen?", a.base)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%s did not answer within %v", a.base, Timeout)
	default:
		return fmt.Errorf("%s cannot be reached: %w", a.base, err)
	}
}

// Problem reads the code and the detail of an answer that is a problem (RFC 9457).
func Problem(body []byte) (code, detail string) {
	var p struct{ Code, Detail string }
	if json.Unmarshal(body, &p) != nil {
		return "", ""
	}
	return p.Code, Printable(p.Detail)
}

// Refused says why the admin API answered so, and what to do.
func (a *Client) Refused(status int, body []byte) error {
	code, detail := Problem(body)
	switch {
	case status == http.StatusUnauthorized && a.key == "":
		return fmt.Errorf("%s asks for a key: name its file with --admin-key-file", a.base)
	case status == http.StatusUnauthorized:
		return fmt.Errorf("%s does not know the key: the first one in --admin-key-file must be one of the server's, which reads a changed file on HUP", a.base)
	case status == http.StatusForbidden:
		return fmt.Errorf("%s refuses: without an admin key the server answers only to 127.0.0.1, [::1] or localhost; ask on its own machine, or give it --admin-key-file", a.base)
	case status == http.StatusNotFound && code != "session_not_found":
		return fmt.Errorf("%s has no admin API: is that the address of --listen? it must be that of --admin-listen", a.base)
	case code == "":
		return fmt.Errorf("%s answers %d and is no coatcheck admin listener", a.base, status)
	default:
		return fmt.Errorf("%s answers %d: %s", a.base, status, detail)
	}
}

// URL is where this machine reaches --admin-listen; empty: nowhere that can be told.
func URL(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return ""
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// UserPath is the path of a user's sessions. Every byte that is not plain is percent-encoded, dots too, because a path of
// dots means another.
func UserPath(user string) string { return "/admin/users/" + PathSegment(user) + "/sessions" }

func PathSegment(s string) string {
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

// Printable keeps what others wrote, such as a user agent, from giving orders to a terminal, and from filling it.
func Printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
	const most = 100
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}

// OneLine is a text of ours with errors of others in it, which may come from anywhere.
func OneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7F }), " ")
}
