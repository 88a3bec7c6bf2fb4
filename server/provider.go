package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	_ "embed" // the page's files
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/server/oidc"
)

// The server begins sessions for people whom an OpenID Connect provider has authenticated, and ends them when the
// provider reports a logout.

// providerValue is the session value that names the provider's session, as a digest. An index that a restart has emptied is filled
// again from it.
const providerValue = "oidc"

// authTimeValue is the note that tells when the provider authenticated the person, in Unix milliseconds (8 bytes, big-endian).
const authTimeValue = "oidc_auth_time"

// endedFor is for how long a provider's session counts as ended. A login with it that is on its way is refused meanwhile; the
// provider begins no other with it.
const endedFor = oidc.CookieLife

// attemptLife is for how long another attempt with the same logout token is told to try again, if a node dies at the work. Without it a
// copy of the token could come between the work and the note that it is done, and end a login that began after it. It is longer than
// the call that ends all of a user's sessions may take: at most 3 s at a Redis, more only where that may evict keys, because then all
// keys are searched. The sessions that a sid names end one by one, which may take longer at a slow store; a copy that comes meanwhile
// ends no later login, because there is none with that sid for endedFor.
const attemptLife = 10 * time.Second

// errBusyToken means that another request with the same logout token is being answered.
var errBusyToken = errors.New("another request with this logout token is being answered")

// providerProblems are the answers to the ways in which a login fails at the provider.
var providerProblems = map[oidc.Kind]*problem{
	oidc.BadCallback: problemOIDCCallback,
	oidc.BadState:    problemOIDCState,
	oidc.BadIssuer:   problemOIDCIssuer,
	oidc.BadCode:     problemOIDCCode,
	oidc.Denied:      problemOIDCDenied,
	oidc.NotAllowed:  problemOIDCNotAllowed,
	oidc.NotVerified: problemOIDCNotVerified,
	oidc.BadAnswer:   problemOIDCAnswer,
	oidc.BadToken:    problemOIDCToken,
	oidc.BadUserInfo: problemOIDCUserInfo,
	oidc.Unavailable: problemOIDCUnavailable,
}

// providerRoutes registers the routes of mode oidc.
func (s *Server) providerRoutes() {
	s.public.Get("/auth/oidc/login", s.oidcLogin)
	s.public.Get("/auth/oidc/callback", s.withLogin(s.oidcCallback))
	s.public.Post("/auth/oidc/backchannel-logout", s.oidcLogout)
}

// oidcLogin sends a browser to the provider. What is remembered until it comes back is in a cookie.
func (s *Server) oidcLogin(c *fiber.Ctx) error {
	reauth := string(c.Context().QueryArgs().Peek("reauth")) == "1"
	return s.sendToProvider(c, oidc.Wanted{Return: s.returns.target(c), Reauth: reauth})
}

func (s *Server) sendToProvider(c *fiber.Ctx, w oidc.Wanted) error {
	location, cookies, err := s.provider.Begin(s.context(c.Context()), w, s.attempts(c))
	if err != nil {
		return s.providerFailed(c, "", err, w)
	}
	for _, cookie := range cookies {
		s.setAttempt(c, cookie)
	}
	c.Set(fiber.HeaderLocation, location)
	c.Status(fiber.StatusFound)
	return nil
}

// attempts returns the request's cookies of logins that are on their way.
func (s *Server) attempts(c *fiber.Ctx) (found []oidc.Cookie) {
	// fasthttp's Cookies would remember each cookie for as long as the connection lives.
	for _, line := range c.Request().Header.PeekAll(fiber.HeaderCookie) {
		for pair := range strings.SplitSeq(string(line), ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if strings.HasPrefix(name, s.provider.CookiePrefix()) {
				found = append(found, oidc.Cookie{Name: name, Value: value})
			}
		}
	}
	return found
}

func (s *Server) setAttempt(c *fiber.Ctx, cookie oidc.Cookie) {
	if strings.ContainsFunc(cookie.Name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`",;=\`, r) }) {
		return // a client's own name, which no clear can name
	}
	age := int(oidc.CookieLife / time.Second)
	if cookie.Value == "" {
		age = 0
	}
	line := fmt.Sprintf("%s=%s; Max-Age=%d; Path=/; HttpOnly; SameSite=Lax", cookie.Name, cookie.Value, age)
	if s.provider.Secure() {
		line += "; Secure"
	}
	c.Context().Response.Header.Add(fiber.HeaderSetCookie, line)
}

// useProvider makes the server one of mode oidc if the configuration has a provider.
func (s *Server) useProvider(cfg Config) (err error) {
	if s.provider = cfg.OIDC; s.provider == nil {
		return nil
	}
	if s.remoteUser = s.provider.RemoteUserClaim(); s.remoteUser != "" {
		s.checked = s.provider.RemoteUserChecked()
	}
	s.providerLimit = login.NewProviderLimit(s.manager.Now)
	s.providerIndex, err = s.newProviderIndex(cfg)
	return err
}

// oidcCallback begins the session of a person whom the provider sends back, and leads to where the person wanted to go. The login
// begins here: how long the person took at the provider does not matter.
func (s *Server) oidcCallback(c *fiber.Ctx, r *coatcheck.Request) error {
	ctx := s.context(c.Context())
	query, err := url.ParseQuery(string(c.Context().URI().QueryString()))
	if err != nil {
		query = nil
	}
	answer, err := s.provider.Answer(query, s.attempts(c))
	if err != nil {
		return s.providerFailed(c, "", err, oidc.Wanted{})
	}
	wanted := answer.Wanted()
	if err := r.BeginLogin(ctx, wanted.Hint); err != nil {
		return s.providerFailed(c, wanted.Hint, err, wanted)
	}
	id, err := s.identity(ctx, c, answer)
	session := s.provider.SessionID(id.Session)
	if err == nil && id.Session != "" {
		err = s.refuseEnded(ctx, session)
	}
	if err == nil {
		err = s.authenticate(r, id.User, id.Claims)
	}
	if err != nil {
		return s.providerFailed(c, id.User, err, wanted)
	}
	r.Remove(refreshedValue)
	if err := noteLogin(r, id, session); err != nil {
		r.Abandon()
		return s.providerFailed(c, id.User, fmt.Errorf("%w: %w", coatcheck.ErrClaimsTooLarge, err), wanted)
	}
	err = r.Commit(ctx)
	if errors.Is(err, coatcheck.ErrRevoked) && wanted.Hint != id.User {
		// All of the user's sessions were ended a short time ago, maybe before this login began: it began before the user was
		// known. The provider, which knows the person by now, is asked once more, and this time the user is known from the start.
		return s.sendToProvider(c, oidc.Wanted{Return: wanted.Return, Reauth: wanted.Reauth, Hint: id.User})
	}
	if err == nil && id.Session != "" {
		err = s.indexSession(ctx, r, session, id.User)
	}
	if err != nil {
		s.audit.ends(r)
		return s.providerFailed(c, id.User, err, wanted)
	}
	s.audit.began(r)
	s.audit.ends(r)
	s.metrics.login(outcomeOK)
	return sendOn(c, cmp.Or(wanted.Return, "../"+afterSignIn)) // from /auth/oidc/callback
}

// identity asks the provider who the person is, unless logins of the client's address have failed there too often. That is no count
// of guesses: a code cannot be guessed. The attempt is over as soon as it is admitted; one that was throttled can come again.
func (s *Server) identity(ctx context.Context, c *fiber.Ctx, answer *oidc.Answer) (oidc.Identity, error) {
	end, err := s.providerLimit.Begin(s.client(c.Context()))
	if err != nil {
		return oidc.Identity{}, err
	}
	failed := true // also if a panic ends the request: a login that never ends would count for ever
	defer func() { end(failed) }()
	s.setAttempt(c, answer.Clear())
	id, err := answer.Identity(ctx)
	failed = err != nil && answer.Tried()
	return id, err
}

// noteLogin keeps the provider's session with ours, and when the provider authenticated the person, in place of those of an earlier
// login.
func noteLogin(r *coatcheck.Request, id oidc.Identity, session [16]byte) (err error) {
	r.Remove(providerValue)
	r.Remove(authTimeValue)
	if id.Session != "" {
		err = r.Insert(providerValue, session[:])
	}
	if err == nil && !id.AuthTime.IsZero() {
		err = leaveNote(r, authTimeValue, binary.BigEndian.AppendUint64(nil, uint64(id.AuthTime.UnixMilli())))
	}
	return err
}

// refuseEnded refuses a login whose session at the provider has ended, or of which the index cannot tell, before the login ends the
// session that the browser carries, or the user's oldest.
func (s *Server) refuseEnded(ctx context.Context, session [16]byte) error {
	return refusalBy(s.providerIndex.Ended(ctx, session, s.manager.Now()))
}

// refusalBy is what an answer of the index means to a login.
func refusalBy(ended bool, err error) error {
	switch {
	case err == nil && ended:
		return coatcheck.ErrRevoked
	case err != nil && !errors.Is(err, coatcheck.ErrUnavailable):
		return fmt.Errorf("%w: %w", coatcheck.ErrUnavailable, err)
	default:
		return err
	}
}

// indexSession notes the session that has begun with the provider's. If that has been ended since refuseEnded, or cannot be noted, the
// new session ends too, before anybody has its token.
func (s *Server) indexSession(ctx context.Context, r *coatcheck.Request, session [16]byte, user string) error {
	now := s.manager.Now()
	_, left := r.Token(now)
	err := refusalBy(s.providerIndex.Add(ctx, session, r.Key().String()+user, now, now.Add(left)))
	if err == nil {
		return nil
	}
	r.Destroy()
	return errors.Join(err, r.Commit(ctx))
}

// providerFailed reports why a login did not succeed, and returns the answer, whose page begins another for the same.
func (s *Server) providerFailed(c *fiber.Ctx, user string, err error, w oidc.Wanted) error {
	s.audit.loginFailed(s.client(c.Context()), canonicalName(user), err)
	f, throttled := new(oidc.Failure), new(login.Throttled)
	switch {
	case errors.As(err, &throttled):
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(throttled.Seconds()))
		err = problemLoginThrottled
	case errors.As(err, &f):
		err = providerProblems[f.Kind]
	case errors.Is(err, coatcheck.ErrClaimsTooLarge):
		err = problemClaimsTooLarge
	}
	return &failedSignIn{err, w}
}

// failedSignIn is an error that people see as a page.
type failedSignIn struct {
	error
	wanted oidc.Wanted
}

func (f *failedSignIn) Unwrap() error { return f.error }

var (
	//go:embed page/failed.html
	failedHTML     string
	failedTemplate = template.Must(template.New("failed").Parse(failedHTML))
)

// showPage makes the answer to a browser that navigates a page for people, with the same status and headers.
func (f *failedSignIn) showPage(ctx *fasthttp.RequestCtx, p *problem) {
	if !navigates(&ctx.Request.Header, false) {
		return
	}
	var b bytes.Buffer
	var said struct {
		Detail string `json:"detail"`
	}
	_ = json.Unmarshal(p.Body, &said) // our own
	data := struct {
		Title, Text, Code string
		oidc.Wanted
	}{"The login did not succeed", said.Detail, p.Code, f.wanted}
	if failedTemplate.Execute(&b, data) != nil {
		return // the problem is an answer too
	}
	ctx.Response.Header.Set(fasthttp.HeaderContentSecurityPolicy, pageCSP)
	ctx.Response.Header.SetContentTypeBytes(typeHTML)
	ctx.Response.SetBody(b.Bytes())
}

// oidcLogout ends sessions when the provider reports a logout (OpenID Connect Back-Channel Logout 1.0). As that specification says,
// the answer is 400 if the token is wrong, and if the sessions could not be ended, or that this is done could not be noted. Whatever was
// ended is in the audit log.
func (s *Server) oidcLogout(c *fiber.Ctx) error {
	ended, user, err := s.endAtProvidersWord(s.context(c.Context()), c)
	if err == nil || ended > 0 {
		s.audit.endedByProvider(s.client(c.Context()), user, ended)
	}
	if err != nil {
		s.audit.providerLogoutFailed(s.client(c.Context()), err)
		code, text := "invalid_request", "The logout token is not valid."
		if f := new(oidc.Failure); !errors.As(err, &f) || f.Kind != oidc.BadLogout {
			code, text = "server_error", "The sessions could not be ended. Try again."
		}
		return c.Status(fiber.StatusBadRequest).JSON(fiber.Map{"error": code, "error_description": text})
	}
	return nil
}

func (s *Server) endAtProvidersWord(ctx context.Context, c *fiber.Ctx) (ended int, user string, err error) {
	form, err := url.ParseQuery(string(c.Request().Body()))
	if err != nil || len(form["logout_token"]) != 1 || !isMediaType(c.Request().Header.ContentType(), contentTypeForm) {
		return 0, "", &oidc.Failure{Kind: oidc.BadLogout, Detail: "the request is no form with one logout token"}
	}
	out, err := s.provider.Logout(ctx, form.Get("logout_token"))
	if err != nil {
		return 0, "", err
	}
	now, attempt := s.manager.Now(), rand.Text()
	done, busy, err := s.providerIndex.Begin(ctx, out.ID, attempt, now, attemptLife)
	switch {
	case err == nil && done:
		return 0, "", &oidc.Failure{Kind: oidc.BadLogout, Detail: "the logout token was used before"}
	case err == nil && busy:
		return 0, "", errBusyToken
	}
	if err == nil {
		ended, err = s.endProviderSessions(ctx, out, now)
	}
	if err != nil {
		// The provider may try again with the same token. An error does not mean that nothing was done: what the store was too slow to
		// answer it may have done, or may still do, and the next try does it again. That also ends what began in between, which cannot
		// be told apart. If the index cannot forget either, the attempt is over in attemptLife.
		return ended, out.User, errors.Join(err, s.providerIndex.Forget(ctx, out.ID, attempt))
	}
	// After an error the note may have been made, so it stays: a login that began since must not end by another try. Where it was not
	// made, the work is done again once the attempt is over.
	return ended, out.User, s.providerIndex.Done(ctx, out.ID, attempt, now, now.Add(oidc.LogoutLife))
}

// endProviderSessions ends what a logout token names.
func (s *Server) endProviderSessions(ctx context.Context, out oidc.Logout, now time.Time) (ended int, err error) {
	if out.Session == "" {
		return s.endUser(ctx, out.User)
	}
	entries, err := s.providerIndex.End(ctx, s.provider.SessionID(out.Session), now, now.Add(endedFor))
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		key, user, ok := splitEntry(entry)
		if !ok || out.User != "" && out.User != user {
			continue
		}
		switch err := s.endOne(ctx, user, key); {
		case err == nil:
			ended++
		case !errors.Is(err, coatcheck.ErrNotFound):
			return ended, err
		}
	}
	return ended, nil
}

// splitEntry returns the parts of an index' entry: the session's key and its user.
func splitEntry(entry string) (coatcheck.Key, string, bool) {
	const n = 22
	if len(entry) < n {
		return coatcheck.Key{}, "", false
	}
	key, ok := coatcheck.ParseKey([]byte(entry[:n]))
	return key, entry[n:], ok
}
