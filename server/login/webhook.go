package login

import (
	"bytes"
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
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/cause"
	"github.com/coatcheck/coatcheck/internal/strictjson"
	"github.com/coatcheck/coatcheck/server/internal/loopback"
)

// WebhookOptions says how Webhook works. The zero value works.
type WebhookOptions struct {
	// Timeout bounds an attempt as a whole, from the connection to the last byte of the answer. 0 is 5 seconds.
	Timeout time.Duration
	// RootCAs are the authorities that may sign the back end's certificate. Nil is the system's.
	RootCAs *x509.CertPool
}

// maxAnswer is the most bytes of a back end's answer, which is a user ID, claims and little more.
const maxAnswer = 16 << 10

// MaxWebhooks bounds the connections to the back end; further attempts wait for a connection until their timeout.
const MaxWebhooks = 64

// Webhook asks a back end of yours by POSTing the login request's body to it. The answer 200 with {"user_id":"…"} admits
// that user, with the claims of a member "claims"; 401 refuses; any other answer, even a redirect, is ErrUnavailable. One client's
// address can have it ask only so often without being let in, whatever it answers (ProviderLimit). It is safe for concurrent use.
type Webhook struct {
	url     string
	client  *http.Client
	aliases aliases
	limit   *ProviderLimit
}

// NewWebhook returns the mode that asks the back end at address: https, or http on a loopback address or localhost. An
// error names the address by its scheme and host only, because the rest may hold a secret. Close the mode when it is not used any more.
func NewWebhook(address string, opt WebhookOptions) (*Webhook, error) {
	if opt.Timeout < 0 {
		return nil, fmt.Errorf("webhook: timeout %v: must not be negative", opt.Timeout)
	}
	if opt.Timeout == 0 {
		opt.Timeout = 5 * time.Second
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("webhook: not a URL") // the parser's error quotes it
	}
	shown := (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
	dialer := &net.Dialer{Timeout: opt.Timeout}
	switch {
	case u.Hostname() == "":
		return nil, fmt.Errorf("webhook %.200q: has no host", shown)
	case u.Fragment != "":
		return nil, fmt.Errorf("webhook %.200q: must not have a fragment", shown)
	case u.Scheme == "http" && loopback.Host(u.Hostname()):
		dialer.Control = loopback.Only
	case u.Scheme != "https":
		return nil, fmt.Errorf("webhook %.200q: must be https, or http on loopback: passwords go there", shown)
	}
	return &Webhook{url: address, limit: newLimit(webhookFailures, time.Now), client: &http.Client{
		Timeout: opt.Timeout,
		Transport: &http.Transport{ // without a proxy, whatever the environment says
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: opt.RootCAs},
			ForceAttemptHTTP2:      true,
			DisableCompression:     true,
			MaxConnsPerHost:        MaxWebhooks,
			MaxIdleConnsPerHost:    MaxWebhooks,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Traits are the secret of a password.
func (*Webhook) Traits() Traits { return Traits{Guesses: GuessesPassword} }

// Check asks the back end, or returns a *Throttled if the client's address has had it asked too often. A Throttle counts only what was
// refused, and who sends the name and the password may know some for which the back end fails, or takes its time.
func (w *Webhook) Check(ctx context.Context, a *Attempt) (string, error) {
	end, err := w.limit.Begin(a.Client)
	if err != nil {
		return "", err
	}
	failed := true // also if a panic ends the attempt: one that never ends would count for ever
	defer func() { end(failed) }()
	user, err := w.ask(ctx, a)
	failed = err != nil
	return user, err
}

func (w *Webhook) ask(ctx context.Context, a *Attempt) (string, error) {
	// A transport may still read the body after the answer (http.RoundTripper), when its bytes belong to another request.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(bytes.Clone(a.Body)))
	if err != nil {
		return "", fmt.Errorf("%w: the request could not be made", ErrUnavailable) // the error quotes the URL
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "coatcheck")
	resp, err := w.client.Do(req)
	if err != nil {
		return "", unanswered(err)
	}
	defer func() { _ = resp.Body.Close() }() // nothing was written
	// Then the body is the connection, of which no timeout ends a read.
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return "", fmt.Errorf("%w: it answered %d", ErrUnavailable, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case resp.StatusCode == http.StatusUnauthorized: // even if the body could not be read, the status is enough
		return "", ErrRefused
	case err != nil:
		return "", unanswered(err)
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("%w: it answered %d", ErrUnavailable, resp.StatusCode)
	case len(body) > maxAnswer:
		return "", fmt.Errorf("%w: its answer is larger than %d bytes", ErrUnavailable, maxAnswer)
	}
	user, claims, err := readAnswer(body)
	if errors.Is(err, coatcheck.ErrClaimsTooLarge) {
		return "", err
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	a.Claims = claims
	w.aliases.learn(a.UserID, user)
	return user, nil
}

// UserOf returns the user that a login by the attempt's name let in last, which is most likely the user that it is for: a name
// may be an e-mail address, and the user ID a number. If that is not known, it returns the name itself.
func (w *Webhook) UserOf(a *Attempt) string { return w.aliases.userOf(a.UserID) }

// unanswered is ErrUnavailable for a request that failed. It quotes neither the address, which may hold a secret, nor anything
// that the back end sent, which may be the password.
func unanswered(err error) error {
	if errors.Is(err, loopback.ErrNotLoopback) {
		return fmt.Errorf("%w: %w", ErrUnavailable, loopback.ErrNotLoopback)
	}
	return fmt.Errorf("%w: the back end %s", ErrUnavailable, cause.Of(err))
}

// readAnswer returns the user ID of a back end's answer: one JSON object with one member of exactly that name. Its member claims
// is read too, and other members are ignored.
func readAnswer(body []byte) (string, coatcheck.ClaimSet, error) {
	id, claims, err := readMembers(body)
	if err != nil {
		return "", coatcheck.ClaimSet{}, err
	}
	set, err := coatcheck.ParseClaims(claims)
	if err != nil {
		return "", coatcheck.ClaimSet{}, fmt.Errorf("its answer: %w", err)
	}
	return id, set, nil
}

// readMembers returns the members that readAnswer reads.
func readMembers(body []byte) (id string, claims json.RawMessage, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", nil, errors.New("its answer is not a JSON object")
	}
	members := make(map[string]json.RawMessage)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return "", nil, errors.New("its answer is not JSON")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return "", nil, errors.New("its answer is not JSON")
		}
		name, _ := t.(string)
		if name != "user_id" && name != "claims" {
			continue
		}
		if members[name] != nil {
			return "", nil, fmt.Errorf("its answer has %s twice", name)
		}
		members[name] = value
	}
	_, err = d.Token() // the closing brace
	if _, end := d.Token(); err != nil || !errors.Is(end, io.EOF) {
		return "", nil, errors.New("its answer is not one JSON object")
	}
	var user *string
	if err := json.Unmarshal(members["user_id"], &user); err != nil || user == nil {
		return "", nil, errors.New("its answer has no user_id that is a string")
	}
	// Unmarshal replaces what is no text by U+FFFD, which would turn two users into one.
	if err := strictjson.Check(members["user_id"]); err != nil {
		return "", nil, fmt.Errorf("its answer's user_id: %w", err)
	}
	if err := checkName(*user); err != nil {
		return "", nil, fmt.Errorf("its answer: %w", err)
	}
	return *user, members["claims"], nil
}

// Close closes the connections that are idle.
func (w *Webhook) Close() { w.client.CloseIdleConnections() }
