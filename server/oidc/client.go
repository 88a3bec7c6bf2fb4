package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

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

// bounded is a transport whose answers end with an error after maxAnswer bytes. In clear text it reaches loopback only.
type bounded struct{ secure, plain *http.Transport }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	t := b.secure
	if req.URL.Scheme != "https" {
		t = b.plain
	}
	resp, err := t.RoundTrip(req)
	if err == nil {
		resp.Body = &boundedBody{resp.Body, maxAnswer}
	}
	return resp, err
}

func (b bounded) CloseIdleConnections() {
	b.secure.CloseIdleConnections()
	b.plain.CloseIdleConnections()
}

type boundedBody struct {
	io.ReadCloser
	left int
}

var errTooLong = errors.New("the answer is too long")

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
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

// fetch reads one JSON document of the provider, and for how long its headers let it be kept: usual, where they say nothing.
func fetch(ctx context.Context, c *http.Client, address string, into any, usual time.Duration) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return 0, errors.New("not a URL")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return 0, reasonOf(err)
	}
	defer func() { _ = resp.Body.Close() }() // nothing was written
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("it answered %d", resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, reasonOf(err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return 0, errors.New("its answer is not the JSON that it must be")
	}
	return kept(resp.Header, usual), nil
}

// The least and the most time for which a document is kept, whatever its headers say.
const (
	minKept = time.Minute
	maxKept = 24 * time.Hour
)

// kept returns for how long an answer may be kept (RFC 9111, section 5.2).
func kept(h http.Header, usual time.Duration) time.Duration {
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store", "no-cache":
			return minKept
		case "max-age":
			if n, err := strconv.Atoi(strings.Trim(value, `"`)); err == nil {
				usual = time.Duration(min(n, int(maxKept/time.Second))) * time.Second
			}
		}
	}
	return min(max(usual, minKept), maxKept)
}

// reasonOf says why a request to the provider got no answer that can be used. Nothing that the provider sent is quoted, see package
// cause.
func reasonOf(err error) error {
	for _, ours := range []error{errTooLong, loopback.ErrNotLoopback} {
		if errors.Is(err, ours) {
			return ours
		}
	}
	return errors.New("it " + cause.Of(err))
}
