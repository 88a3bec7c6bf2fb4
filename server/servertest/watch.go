package servertest

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/dbsctest"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
	"github.com/coatcheck/coatcheck/server"
)

var watchRules = []rule{
	{name: "needs a user", check: checkWatchAnonymous},
	{name: "the view at once, and word of the end", check: checkWatchEnds},
	{name: "a watch that was interrupted while its token was rotated out", config: func(cfg *server.Config) { cfg.Policy.RevokeOnReuse = true }, check: checkWatchAgain},
	{name: "a watch that was interrupted while its token became too old", config: func(cfg *server.Config) { cfg.DBSC = true }, check: checkWatchTooOld},
	{name: "HEAD", transport: true, check: checkWatchHead},
	{name: "ten watchers of a session", check: checkWatchersOfASession},
	{name: "all watchers", config: func(cfg *server.Config) { cfg.Policy.MaxWatchers = 1 }, transport: true, check: checkAllWatchers},
	{name: "watchers leave connections to others", config: func(cfg *server.Config) { cfg.MaxConns = 6 }, transport: true, check: checkWatchersShare},
	{name: "HTTP/1.0", transport: true, check: checkWatchOldClient},
	{name: "a stop ends the stream", unserved: true, transport: true, check: checkWatchStop},
}

// stream is an open response of GET /auth/watch.
type stream struct {
	h    *harness
	resp *http.Response
	in   *bufio.Reader
}

// tryWatch opens GET /auth/watch on a connection of its own.
func (h *harness) tryWatch(token string) *stream {
	h.Helper()
	transport := &http.Transport{}
	h.Cleanup(transport.CloseIdleConnections)
	req, err := http.NewRequestWithContext(h.Context(), http.MethodGet, "http://"+h.Wire.Addr+"/auth/watch", nil)
	require.NoError(h, err)
	name, value, _ := strings.Cut(h.Cookie(token), ": ")
	req.Header.Set(name, value)
	resp, err := transport.RoundTrip(req) //nolint:bodyclose // stream.close does
	require.NoError(h, err)
	s := &stream{h: h, resp: resp, in: bufio.NewReader(resp.Body)}
	h.Cleanup(s.close)
	return s
}

func (s *stream) close() { _ = s.resp.Body.Close() }

// watch is tryWatch of a session that lives, after the first event.
func (h *harness) watch(token string) *stream {
	h.Helper()
	want := h.Get("/auth/me", h.Cookie(token)).Body
	s := h.tryWatch(token)
	require.Equal(h, 200, s.resp.StatusCode)
	assert.Equal(h, "text/event-stream", s.resp.Header.Get("Content-Type"))
	assert.Equal(h, "no", s.resp.Header.Get("X-Accel-Buffering"))
	assert.Equal(h, "no-store", s.resp.Header.Get("Cache-Control"))
	assert.Empty(h, s.resp.Header.Values("Set-Cookie"))
	assert.Regexp(h, `^retry: [2-6]\d\d\d$`, s.line())
	assert.Equal(h, "event: session", s.line())
	assert.Equal(h, "data: "+want, s.line())
	assert.Empty(h, s.line())
	return s
}

func (s *stream) line() string {
	s.h.Helper()
	line, err := s.in.ReadString('\n')
	require.NoError(s.h, err)
	return strings.TrimSuffix(line, "\n")
}

// ends waits for the last event, and for the response's end.
func (s *stream) ends(reason string) {
	s.h.Helper()
	rest, err := io.ReadAll(s.in)
	require.NoError(s.h, err)
	assert.Equal(s.h, "event: ended\ndata: {\"reason\":\""+reason+"\"}\n\n", string(rest))
}

func checkWatchAnonymous(h *harness) {
	live := h.Login(h.User())
	for name, want := range map[string]answer{
		"":                  {Status: 401, Code: "unauthenticated"},
		madeUp():            {Status: 401, Code: "unauthenticated", Cookie: "cleared"},
		h.WrongSecret(live): {Status: 401, Code: "unauthenticated"},
	} {
		var head []string
		if name != "" {
			head = append(head, h.Cookie(name))
		}
		assert.Equal(h, want, h.Answer(h.Get("/auth/watch", head...)), name)
	}
}

func checkWatchEnds(h *harness) {
	user := h.User()
	watched, other := h.Login(user), h.Login(user)
	ended := h.watch(watched)
	h.Post("/auth/logout", h.Cookie(watched))
	ended.ends("ended")

	elsewhere := h.watch(other)
	third := h.Login(user)
	require.Equal(h, 200, h.Do("DELETE", "/auth/sessions", h.Cookie(third)).Status)
	elsewhere.ends("ended")

	byOperator := h.watch(third)
	require.Equal(h, 200, h.adminDo("DELETE", "/admin/users/"+user+"/sessions").Status)
	byOperator.ends("ended")

	h.Clock.Step(httpcontract.MaxLifetime) // past the mark
	old := h.Login(user)
	rotated := h.watch(old)
	newer := h.Refresh(old)
	h.Me(newer)
	h.Clock.Step(grace)
	rotated.ends("rotated")

	expired := h.watch(newer)
	h.Clock.Step(ttl)
	expired.ends("expired")
}

// Who watches for a connection that stays open has no other token to come back with.
func checkWatchAgain(h *harness) {
	user := h.User()
	old, token := h.Reused(user)
	again := h.tryWatch(old)
	assert.Equal(h, 200, again.resp.StatusCode)
	assert.Equal(h, "text/event-stream", again.resp.Header.Get("Content-Type"))
	assert.Empty(h, again.resp.Header.Values("Set-Cookie"))
	again.ends("rotated")
	assert.Equal(h, user, h.Me(token), "it ends nothing")
	h.tryWatch(old).ends("rotated")
	assert.Empty(h, h.Events("reuse"), "nor is it one")
	noted := h.Events("watch_rotated")
	require.Len(h, noted, 1, "one a minute")
	assert.Equal(h, []any{user, h.IDOf(token), "127.0.0.1"}, []any{noted[0]["user"], noted[0]["session_id"], noted[0]["client"]})
	assert.Zero(h, h.scrape()["coatcheck_token_reuse_total"])

	one, two := h.Login(h.User()), h.Login(h.User())
	assert.Equal(h, 401, h.Get("/auth/watch", h.Cookie(old, one, two)).Status, "which of them is meant, nobody knows")
	h.Post("/auth/logout", h.Cookie(token))
	assert.Equal(h, 401, h.Get("/auth/watch", h.Cookie(old)).Status, "an ended session is not told apart by its old token")

	old, token = h.Reused(user)
	assert.Equal(h, "", h.Me(old))
	assert.Equal(h, "", h.Me(token), "on any other route it is")
}

// A watch of a device-bound session comes back with a token that the session's device has yet to renew.
func checkWatchTooOld(h *harness) {
	user := h.User()
	login := h.TryLogin(user)
	m := challengeIn.FindStringSubmatch(login.Header.Get("Secure-Session-Registration"))
	require.NotNil(h, m)
	named := "; " + h.CookieName + "-name=" + m[1][:22]
	bound := h.Post("/auth/dbsc/register", h.Cookie(h.Token(login))+named, "Secure-Session-Response: "+dbsctest.NewDevice().Registration(m[1]))
	require.Equal(h, 200, bound.Status, bound.Body)
	token := h.Token(bound)
	h.watch(token).close()
	h.Clock.Step(12 * time.Minute) // of 10, and a tenth
	for range 2 {
		again := h.tryWatch(token)
		assert.Equal(h, 200, again.resp.StatusCode)
		cleared := again.resp.Header.Values("Set-Cookie")
		require.Len(h, cleared, 1, "the name is needed for the renewal")
		assert.Contains(h, cleared[0], h.CookieName+"=; Max-Age=0;")
		again.ends("rotated")
	}
	assert.Len(h, h.Events("watch_rotated"), 1)
	assert.Empty(h, h.Events("bound_token_too_old"))
	assert.Zero(h, h.scrape()["coatcheck_bound_tokens_too_old_total"])
	assert.Equal(h, 401, h.Get("/auth/sessions", h.Cookie(token)).Status, "no other route takes it")
	assert.Len(h, h.Events("bound_token_too_old"), 1)
	require.Equal(h, 200, h.adminDo("DELETE", "/admin/users/"+user+"/sessions").Status)
	assert.Equal(h, 401, h.Get("/auth/watch", h.Cookie(token)).Status)
}

func checkWatchHead(h *harness) {
	resp := h.Do("HEAD", "/auth/watch", h.Cookie(h.Login(h.User())))
	assert.Empty(h, resp.Header["Content-Length"], "as the GET's")
	assert.Equal(h, answer{Status: 200}, h.Answer(resp))
	assert.Equal(h, "text/event-stream", resp.Header.Get("Content-Type"))
}

func checkWatchersOfASession(h *harness) {
	token := h.Login(h.User())
	var all []*stream
	for range 10 {
		all = append(all, h.watch(token))
	}
	full := answer{Status: 503, Code: "too_many_watchers"}
	assert.Equal(h, full, h.Answer(h.Get("/auth/watch", h.Cookie(token))))
	h.watch(h.Login(h.User()))
	all[3].close() // the server sees the connection's end
	require.Eventually(h, func() bool {
		again := h.tryWatch(token)
		defer again.close()
		return again.resp.StatusCode == 200
	}, patience, 10*time.Millisecond)
}

func checkAllWatchers(h *harness) {
	h.watch(h.Login(h.User()))
	resp := h.Get("/auth/watch", h.Cookie(h.Login(h.User())))
	assert.Equal(h, answer{Status: 503, Code: "too_many_watchers"}, h.Answer(resp))
	assert.Equal(h, "1", resp.Header.Get("Retry-After"))
}

func checkWatchersShare(h *harness) {
	for range 3 {
		h.watch(h.Login(h.User()))
	}
	resp := h.Get("/auth/watch", h.Cookie(h.Login(h.User())))
	assert.Equal(h, answer{Status: 503, Code: "too_many_watchers"}, h.Answer(resp))
	assert.Eventually(h, func() bool { return h.scrape()["coatcheck_http_connections"] == 4 }, patience, 5*time.Millisecond, "three watched ones and this test's")
}

// A client of HTTP/1.0, such as nginx by default, gets the events without chunks.
func checkWatchOldClient(h *harness) {
	token := h.Login(h.User())
	c := h.Wire.Open(h)
	_, err := io.WriteString(c, "GET /auth/watch HTTP/1.0\r\nHost: x\r\n"+h.Cookie(token)+"\r\n\r\n")
	require.NoError(h, err)
	resp, err := http.ReadResponse(c.In, nil)
	require.NoError(h, err)
	defer resp.Body.Close() //nolint:errcheck // the connection is closed as well
	head, err := httputil.DumpResponse(resp, false)
	require.NoError(h, err)
	assert.NotContains(h, string(head), "Transfer-Encoding")
	s := &stream{h: h, resp: resp, in: bufio.NewReader(resp.Body)}
	for s.line() != "" { //nolint:revive // the loop only reads the lines of the first event
	}
	h.Post("/auth/logout", h.Cookie(token))
	s.ends("ended")
}

func checkWatchStop(h *harness) {
	h.serve(nil)
	s := h.watch(h.Login(h.User()))
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	require.NoError(h, h.srv.Shutdown(ctx), "a stream does not hold up the stop")
	rest, err := io.ReadAll(s.in)
	require.NoError(h, err, "the response is whole")
	assert.NotContains(h, string(rest), "ended", "the session lives")
}
