package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/bench/internal/process"
)

// userAgent is what every request of a measurement carries, as long as those of browsers are.
const userAgent = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"

// client is one connection to a server, without a cookie jar: the caller says which cookie a request carries.
type client struct {
	address string
	conn    net.Conn
	reader  *bufio.Reader
	raw     bytes.Buffer // the response as it came
}

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
	raw    []byte
}

// view is what login, me and refresh answer.
type view struct {
	Authenticated bool    `json:"authenticated"`
	UserID        *string `json:"user_id"`
	Refreshed     bool    `json:"refreshed"`
	SessionID     *string `json:"session_id"`
}

func dial(address string) (*client, error) {
	conn, err := net.DialTimeout("tcp", address, process.Patience) //nolint:noctx // it has a timeout
	if err != nil {
		return nil, err
	}
	c := &client{address: address, conn: conn}
	c.reader = bufio.NewReader(io.TeeReader(conn, &c.raw))
	return c, nil
}

func (c *client) close() { _ = c.conn.Close() }

// request is the bytes of a request, with the headers of those that wrk sends.
func request(address, method, path, cookie, body string) string {
	head := method + " " + path + " HTTP/1.1\r\nHost: " + address +
		"\r\nAccept: application/json\r\nUser-Agent: " + userAgent + "\r\n"
	if cookie != "" {
		head += "Cookie: " + cookie + "\r\n"
	}
	if body != "" {
		head += "Content-Type: application/json\r\n"
	}
	if method == http.MethodPost {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	return head + "\r\n" + body
}

func (c *client) do(method, path, cookie, body string) (*answer, error) {
	if err := c.send(request(c.address, method, path, cookie, body)); err != nil {
		return nil, err
	}
	return c.receive(method)
}

func (c *client) send(requests string) error {
	if err := c.conn.SetDeadline(time.Now().Add(process.Patience)); err != nil {
		return err
	}
	_, err := io.WriteString(c.conn, requests)
	return err
}

func (c *client) receive(method string) (*answer, error) {
	c.raw.Reset()
	resp, err := http.ReadResponse(c.reader, &http.Request{Method: method})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return &answer{resp.StatusCode, resp.Header, body, bytes.Clone(c.raw.Bytes())}, nil
}

// cookie is the name and value of the cookie that a response set, unchanged: some libraries escape them.
func (a *answer) cookie() (string, error) {
	for _, set := range a.header.Values("Set-Cookie") {
		pair, _, _ := strings.Cut(set, ";")
		if _, value, _ := strings.Cut(pair, "="); value != "" {
			return pair, nil
		}
	}
	return "", errors.New("no cookie was set")
}

func (a *answer) view() (v view, err error) {
	if a.status != http.StatusOK {
		return v, fmt.Errorf("status %d: %.200s", a.status, a.body)
	}
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.DisallowUnknownFields()
	return v, d.Decode(&v)
}

// userID is the n-th user's ID. All have the same length, so that all responses of a server have.
func userID(n int) string { return fmt.Sprintf("user-%07d", n) }

func loginBody(n int) string { return `{"user_id":"` + userID(n) + `"}` }

// logins logs users in, in turn, until there are n sessions, and returns their cookies.
func (c *client) logins(n, users int) ([]string, error) {
	cookies := make([]string, 0, n)
	err := c.eachLogin(n, users, func(_ int, cookie string) error {
		cookies = append(cookies, cookie)
		return nil
	})
	return cookies, err
}

// eachLogin logs users in, in turn, until there are n sessions, and calls each with the number of every session, from 1, and its
// cookie; an error of each ends it. It sends many requests before it reads their answers, so that a million logins take seconds.
func (c *client) eachLogin(n, users int, each func(i int, cookie string) error) error {
	const batch = 100
	for from := 1; from <= n; from += batch {
		to := min(from+batch, n+1)
		var b strings.Builder
		for i := from; i < to; i++ {
			b.WriteString(request(c.address, http.MethodPost, "/auth/login", "", loginBody((i-1)%users+1)))
		}
		if err := c.send(b.String()); err != nil {
			return err
		}
		for i := from; i < to; i++ {
			a, err := c.receive(http.MethodPost)
			if err != nil {
				return err
			}
			if a.status != http.StatusOK {
				return fmt.Errorf("login: status %d: %.200s", a.status, a.body)
			}
			cookie, err := a.cookie()
			if err != nil {
				return err
			}
			if err := each(i, cookie); err != nil {
				return err
			}
		}
	}
	return nil
}
