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

	"github.com/coatcheck/coatcheck/internal/cause"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/server/login"
)

const (
	// Timeout bounds a whole request to a running server, but for the one that ends all sessions of a user.
	Timeout = 10 * time.Second
	// endUserTimeout bounds that one. The server goes on when nobody waits for it any more, and then nobody learns what it did.
	endUserTimeout = redisstore.EndUserWithin + Timeout
	// MaxAnswer bounds how much of an answer is read, in bytes: enough for a user with some 40,000 sessions.
	MaxAnswer = 16 << 20
)

// Client speaks to the admin listener of a running server.
type Client struct {
	base   string // for messages: a URL without a slash at its end, or unix:path
	origin string // what the paths of requests are appended to
	key    string // empty: no key
	client *http.Client
}

// New returns a client of the admin listener at base, a URL. It presents the first key of keyFile, if one is named.
func New(base, keyFile string) (*Client, error) {
	if path, ok := strings.CutPrefix(base, "unix:"); ok {
		c := &Client{base: base, origin: "http://localhost", client: NewHTTPClient()}
		c.client.Transport = bounded{unixTransport(path)}
		if err := c.takeKey(keyFile); err != nil {
			return nil, err
		}
		return c, nil
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("--admin-url: not a URL such as http://127.0.0.1:3001")
	}
	base = strings.TrimSuffix(base, "/")
	c := &Client{base: base, origin: base, client: NewHTTPClient()}
	if err := c.takeKey(keyFile); err != nil {
		return nil, err
	}
	return c, nil
}

// takeKey reads the key to present.
func (c *Client) takeKey(keyFile string) (err error) {
	if keyFile == "" {
		return nil
	}
	if c.key, err = login.FirstKey(keyFile); err != nil {
		return fmt.Errorf("--admin-key-file: %w", err)
	}
	return nil
}

// unixTransport connects to a Unix socket, whatever the URL.
func unixTransport(path string) *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}
}

// NewHTTPClient returns a client that follows no redirect, because the key would go to another server, or that server's
// answer be taken for the first one's, and that uses no proxy, because the server is near.
func NewHTTPClient() *http.Client {
	return &http.Client{
		Timeout:       Timeout,
		Transport:     bounded{&http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// bounded is a transport of whose answers a timeout ends each read. The body of a 101 is the connection, of which none does.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
		_ = resp.Body.Close() // nothing was written
		resp.Body = http.NoBody
	}
	return resp, err
}

// Do sends a request and returns the answer's status and body. No status is an error; an error names what did not answer.
func (c *Client) Do(ctx context.Context, method, path string) (status int, body []byte, err error) {
	return c.do(ctx, Timeout, method, path)
}

func (c *Client) do(ctx context.Context, within time.Duration, method, path string) (status int, body []byte, err error) {
	client := *c.client
	client.Timeout = within
	req, err := http.NewRequestWithContext(ctx, method, c.origin+path, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, c.unreached(err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, MaxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, c.unreached(err)
	case len(body) > MaxAnswer:
		return 0, nil, fmt.Errorf("%s answers with more than %d MiB", c.base, MaxAnswer>>20)
	}
	return resp.StatusCode, body, nil
}

// Check asks for a path that answers 200 when all is well, such as /healthz, and returns nil then.
func (c *Client) Check(ctx context.Context, path string) error {
	status, body, err := c.Do(ctx, http.MethodGet, path)
	if err == nil && status != http.StatusOK {
		err = c.Refused(status, body)
	}
	return err
}

// unreached says why there is no answer.
func (c *Client) unreached(err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("nobody listens at %s: is the server running, and is that its --admin-listen?", c.base)
	}
	return fmt.Errorf("%s %s", c.base, cause.Of(err))
}

// Problem reads the code and the detail of an answer that is a problem (RFC 9457).
func Problem(body []byte) (code, detail string) {
	var p struct{ Code, Detail string }
	if json.Unmarshal(body, &p) != nil {
		return "", ""
	}
	return p.Code, Printable(p.Detail)
}

// Refused says why the admin API gave this answer, and what to do.
func (c *Client) Refused(status int, body []byte) error {
	code, detail := Problem(body)
	switch {
	case status == http.StatusUnauthorized && c.key == "":
		return fmt.Errorf("%s asks for a key: name its file with --admin-key-file", c.base)
	case status == http.StatusUnauthorized:
		return fmt.Errorf("%s does not know the key: the first one in --admin-key-file must be one of the server's, which reads a changed file on HUP", c.base)
	case status == http.StatusForbidden:
		return fmt.Errorf("%s refuses: without an admin key the server answers only to 127.0.0.1, [::1] or localhost; ask on its own machine, or give it --admin-key-file", c.base)
	case status == http.StatusNotFound && code != "session_not_found":
		return fmt.Errorf("%s has no admin API: is that the address of --listen? it must be that of --admin-listen", c.base)
	case code == "":
		return fmt.Errorf("%s answers %d and is no coatcheck admin listener", c.base, status)
	default:
		return fmt.Errorf("%s answers %d: %s", c.base, status, detail)
	}
}

// URL returns the URL, or the unix: address, at which this machine reaches --admin-listen; empty if none can be told.
func URL(listen string) string {
	if path, _, _ := strings.Cut(listen, "?"); strings.HasPrefix(path, "unix:") {
		return path
	}
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
