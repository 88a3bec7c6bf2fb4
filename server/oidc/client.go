package oidc

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/coatcheck/coatcheck/internal/cause"
	"github.com/coatcheck/coatcheck/server/internal/loopback"
)

const (
	// maxAnswer is the most bytes of any answer of a provider.
	maxAnswer = 256 << 10
	// MaxConns bounds the connections to a provider; further requests wait for one until their time is up.
	MaxConns = 64
	// requestTimeout bounds one request to a provider, from the connection to the last byte of the answer.
	requestTimeout = 5 * time.Second
)

// newClient returns the client for a provider. It follows no redirect, uses no proxy, whatever the environment says, and fails
// where an answer is longer than maxAnswer.
func newClient(roots *x509.CertPool, timeout time.Duration) *http.Client {
	dialer := &net.Dialer{Timeout: timeout}
	return &http.Client{
		Timeout: timeout,
		Transport: bounded{
			secure: &http.Transport{
				DialContext:     dialer.DialContext,
				TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, ForceAttemptHTTP2: true,
				MaxConnsPerHost: MaxConns, MaxIdleConnsPerHost: MaxConns, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 16 << 10,
			},
			plain: &http.Transport{
				DialContext:     (&net.Dialer{Timeout: timeout, Control: loopback.Only}).DialContext,
				MaxConnsPerHost: MaxConns, MaxIdleConnsPerHost: MaxConns, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 16 << 10,
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// bounded is a transport that reads each answer before it returns it, so that one which does not arrive as a whole is an error of the
// request, also for libraries that do not tell why they could not read. Of an answer that is longer than maxAnswer only an error can
// be read. In clear text it reaches loopback only.
type bounded struct{ secure, plain *http.Transport }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	t := b.secure
	if req.URL.Scheme != "https" {
		t = b.plain
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols { // the body is the connection, of which no timeout ends a read
		_ = resp.Body.Close() // nothing was written
		resp.Body = http.NoBody
		return resp, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	_ = resp.Body.Close() // nothing was written
	if err != nil {
		return nil, err
	}
	if resp.Body = io.NopCloser(bytes.NewReader(body)); len(body) > maxAnswer {
		resp.Body = tooLong{}
	}
	return resp, nil
}

func (b bounded) CloseIdleConnections() {
	b.secure.CloseIdleConnections()
	b.plain.CloseIdleConnections()
}

var errTooLong = errors.New("the answer is too long")

// tooLong is the body in place of one that is too long.
type tooLong struct{}

func (tooLong) Read([]byte) (int, error) { return 0, errTooLong }
func (tooLong) Close() error             { return nil }

// noting is a transport that keeps the status of its last answer, and whether it was too long: the libraries tell it in a text at best.
type noting struct {
	http.RoundTripper
	status  int // 0: there was no answer
	tooLong bool
}

func (n *noting) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := n.RoundTripper.RoundTrip(req)
	if err == nil {
		n.status = resp.StatusCode
		_, n.tooLong = resp.Body.(tooLong)
	}
	return resp, err
}

// failure is what it means that a library could not use the answer because of err.
func (n *noting) failure(what string, err error) error {
	if n.tooLong {
		err = errTooLong
	}
	return failure(what, n.status, err)
}

// noted is context, and notes the status of the answer to the one request that is made with it.
func (p *Provider) noted(ctx context.Context) (context.Context, *noting) {
	client := *p.client
	n := &noting{RoundTripper: client.Transport}
	client.Transport = n
	return oidc.ClientContext(ctx, &client), n
}

// failure is what an answer of this status means that could not be used because of err. A provider that cannot be reached, takes too
// long, or says that it cannot answer now is not available; every other answer is a bad one.
func failure(what string, status int, err error) error {
	_, none := errors.AsType[*url.Error](err)
	switch {
	case none:
		return failf(Unavailable, "%s: %v", what, reasonOf(err))
	case status >= http.StatusInternalServerError || status == http.StatusTooManyRequests:
		return failf(Unavailable, "%s: it answered %d", what, status)
	case status != http.StatusOK:
		return failf(BadAnswer, "%s: it answered %d", what, status)
	case errors.Is(err, errTooLong):
		return failf(BadAnswer, "%s: %v", what, errTooLong)
	default:
		return failf(BadAnswer, "%s: its answer is not the JSON that it must be", what)
	}
}

// secureURL reads a URL that must be https, or http on a loopback address.
func secureURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, errors.New("must be a URL with a host, without a user and a fragment")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback.Host(u.Hostname())) {
		return nil, errors.New("must be https, or http on a loopback address")
	}
	return u, nil
}

// fetch reads one JSON document of the provider, and for how long its headers let it be kept: usual, where they say nothing. The
// error is a *Failure, which calls the document what.
func fetch(ctx context.Context, c *http.Client, what, address string, into any, usual time.Duration) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return 0, failf(BadAnswer, "%s: not a URL", what)
	}
	req.Header.Set("Accept", "application/json")
	header, body, err := send(c, what, req)
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return 0, failure(what, http.StatusOK, err)
	}
	return kept(header, usual), nil
}

// send returns the provider's answer to a request, which must be a 200. The error is a *Failure, which calls the answer what.
func send(c *http.Client, what string, req *http.Request) (http.Header, []byte, error) {
	resp, err := c.Do(req)
	if err != nil {
		return nil, nil, failure(what, 0, err)
	}
	defer func() { _ = resp.Body.Close() }() // nothing was written
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, nil, failure(what, resp.StatusCode, err)
	}
	return resp.Header, body, nil
}

const (
	// uncachedKept is for how long a document is kept of which its headers say that it must not be, or that its time is over. Otherwise
	// strangers who begin logins could make this server ask for it as often as they like.
	uncachedKept = time.Minute
	// maxKept is the most time for which a document is kept.
	maxKept = 24 * time.Hour
	// longest is the largest number of seconds that counts, some thirty years (RFC 9111, section 1.2.2).
	longest = 1e9
)

// kept returns for how long an answer may be kept (RFC 9111, sections 4.2 and 5.2).
func kept(h http.Header, usual time.Duration) time.Duration {
	if expires := h.Get("Expires"); expires != "" {
		end, noTime := http.ParseTime(expires)
		date, noDate := http.ParseTime(h.Get("Date"))
		switch {
		case noTime != nil:
			usual = 0 // it is in the past
		case noDate == nil:
			usual = max(end.Sub(date), 0)
		}
	}
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store", "no-cache":
			return uncachedKept
		case "max-age":
			if n, err := strconv.Atoi(strings.Trim(value, `"`)); err == nil || errors.Is(err, strconv.ErrRange) {
				usual = time.Duration(min(max(n, 0), longest)) * time.Second
			}
		}
	}
	if age, err := strconv.Atoi(h.Get("Age")); (err == nil || errors.Is(err, strconv.ErrRange)) && age > 0 {
		usual -= time.Duration(min(age, longest)) * time.Second
	}
	if usual <= 0 {
		return uncachedKept
	}
	return min(usual, maxKept)
}

// reasonOf says why a request to the provider got no answer that can be used. Nothing that the provider sent is quoted, see package
// cause.
func reasonOf(err error) error {
	if errors.Is(err, loopback.ErrNotLoopback) {
		return loopback.ErrNotLoopback
	}
	return errors.New("it " + cause.Of(err))
}
