package servertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/fibersession"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
)

// harness is a server under test and what the rules do with it.
type harness struct {
	*testing.T
	store *double
	clock *clock
	logs  *logBuffer
	api   *document
	srv   *server.Server
	wire  *wire // the public listener
	admin *wire

	name     string // of the session cookie
	attrs    string // what every Set-Cookie has after the Max-Age, attributes sorted
	canaries []string
	retryFor time.Duration // 0: the policy's default

	mu     sync.Mutex
	issued map[string]bool // guarded by mu: every token that a Set-Cookie carried
}

func newHarness(t *testing.T, real coatcheck.Store, api *document) *harness {
	h := &harness{
		T: t, store: &double{Store: real}, clock: newClock(), logs: new(logBuffer), api: api,
		name: "__Host-coatcheck", attrs: "httponly; path=/; samesite=Lax; secure",
		issued: make(map[string]bool),
	}
	t.Cleanup(func() {
		h.checkLogs()
		keepLog(t, h.logs.text())
	})
	return h
}

func (h *harness) config(edit func(*server.Config)) server.Config {
	cfg := server.Config{Login: login.Open{}, Logger: h.logger()}
	cfg.Policy.Now, cfg.Policy.RetryFor = h.clock.now, h.retryFor
	if edit != nil {
		edit(&cfg)
	}
	return cfg
}

func (h *harness) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(h.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// serve starts the server and its two listeners.
func (h *harness) serve(edit func(*server.Config)) {
	h.Helper()
	srv, err := server.New(h.store, h.config(edit))
	require.NoError(h, err)
	h.srv = srv
	public, admin := listen(h.T), listen(h.T)
	wires := [2]*wire{newWire(public.Addr()), newWire(admin.Addr())}
	h.wire, h.admin = wires[0], wires[1]
	var served sync.WaitGroup
	served.Go(func() { assert.NoError(h, srv.Serve(public)) })
	served.Go(func() { assert.NoError(h, srv.ServeAdmin(admin)) })
	h.Cleanup(func() {
		wires[0].close()
		wires[1].close()
		stop(srv)
		served.Wait()
	})
}

// stop ends a server when the test is over and nobody is left to drain for.
func stop(srv *server.Server) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = srv.Shutdown(ctx)
}

// sessions is the session middleware alone.
func (h *harness) sessions(edit func(*server.Config)) fiber.Handler {
	h.Helper()
	cfg := h.config(edit)
	m, err := fibersession.New(h.store, fibersession.Config{
		Policy: cfg.Policy, Cookie: cfg.Cookie, TrustedProxies: cfg.TrustedProxies, Logger: cfg.Logger,
	})
	require.NoError(h, err)
	return m
}

// serveApp starts a Fiber application of the test's own, behind the session middleware alone.
func (h *harness) serveApp(edit func(*server.Config), routes func(app *fiber.App)) {
	h.Helper()
	app := fiber.New(fiber.Config{DisableStartupMessage: true, CaseSensitive: true})
	app.Use(h.sessions(edit))
	routes(app)
	ln := listen(h.T)
	h.wire = newWire(ln.Addr())
	var served sync.WaitGroup
	served.Go(func() { assert.NoError(h, app.Listener(ln)) })
	h.Cleanup(func() {
		h.wire.close()
		_ = app.ShutdownWithTimeout(time.Millisecond)
		served.Wait()
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return ln
}

// user returns a user ID that nobody has used before.
func (h *harness) user() string { return "user-" + rand.Text() }

// cookie is a Cookie line that carries the session cookie with these values, in one line.
func (h *harness) cookie(values ...string) string {
	pairs := make([]string, len(values))
	for i, v := range values {
		pairs[i] = h.name + "=" + v
	}
	return "Cookie: " + strings.Join(pairs, "; ")
}

// do sends a request to the public listener and checks what holds for every answer.
func (h *harness) do(method, path string, head ...string) response {
	h.Helper()
	return h.send(request{method: method, path: path, head: head})
}

func (h *harness) send(req request) response {
	h.Helper()
	resp, err := h.wire.send(req)
	require.NoError(h, err, "%s %s", req.method, req.path)
	h.checkAnswer(h.wire, req, resp)
	return resp
}

func (h *harness) get(path string, head ...string) response {
	h.Helper()
	return h.do("GET", path, head...)
}

func (h *harness) post(path string, head ...string) response {
	h.Helper()
	return h.do("POST", path, head...)
}

const asJSON = "Content-Type: application/json"

func (h *harness) tryLogin(user string, head ...string) response {
	h.Helper()
	body, err := json.Marshal(map[string]string{"user_id": user})
	require.NoError(h, err)
	return h.send(request{method: "POST", path: "/auth/login", head: append(head, asJSON), body: string(body)})
}

// login logs a user in and returns the token.
func (h *harness) login(user string, head ...string) string {
	h.Helper()
	resp := h.tryLogin(user, head...)
	require.Equal(h, 200, resp.status, resp.body)
	require.NotEmpty(h, h.token(resp), "a login sets the cookie")
	return h.token(resp)
}

// refresh rotates a token and returns its successor.
func (h *harness) refresh(token string) string {
	h.Helper()
	resp := h.post("/auth/refresh", h.cookie(token))
	require.Equal(h, 200, resp.status, resp.body)
	require.NotEmpty(h, h.token(resp), "a refresh sets the cookie")
	return h.token(resp)
}

// me returns whom a token stands for, "" for nobody.
func (h *harness) me(tokens ...string) string {
	h.Helper()
	resp := h.get("/auth/me", h.cookie(tokens...))
	require.Equal(h, 200, resp.status, resp.body)
	return resp.view(h.T).user()
}

// adminDo sends a request to the admin listener.
func (h *harness) adminDo(method, path string, head ...string) response {
	h.Helper()
	req := request{method: method, path: path, head: head}
	resp, err := h.admin.send(req)
	require.NoError(h, err)
	h.checkAnswer(h.admin, req, resp)
	return resp
}

// events returns the audit events of that name that were logged so far.
func (h *harness) events(name string) []map[string]any {
	h.Helper()
	var found []map[string]any
	for _, line := range h.logs.lines() {
		var e map[string]any
		require.NoError(h, json.Unmarshal([]byte(line), &e), line)
		if e["event"] == name {
			found = append(found, e)
		}
	}
	return found
}

// parallel runs f(0) to f(n-1) at once.
func (h *harness) parallel(n int, f func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	all.Wait()
}

// rawToken decodes a token without the package under test.
func rawToken(t testing.TB, token string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(token)
	require.NoError(t, err)
	require.Len(t, raw, 32)
	return raw
}

// idOf is the session_id that a token has by the contract.
func idOf(t testing.TB, token string) string {
	t.Helper()
	sum := sha256.Sum256(rawToken(t, token))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// handleOf is the handle of a token's session by the contract.
func handleOf(t testing.TB, token string) string {
	t.Helper()
	sum := sha256.Sum256(append([]byte("handle"), rawToken(t, token)[:16]...))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// madeUp is a well-formed token that no server issued.
func madeUp() string {
	var raw [32]byte
	_, _ = rand.Read(raw[:])
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// wrongSecret is a token of the same session with another secret.
func wrongSecret(t testing.TB, token string) string {
	t.Helper()
	raw := rawToken(t, token)
	raw[31] ^= 1
	return base64.RawURLEncoding.EncodeToString(raw)
}

// logBuffer is what the server logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// keepLog leaves a server's log to scripts/canary, which looks for secrets in all that the tests of all packages left.
func keepLog(t *testing.T, text string) {
	t.Helper()
	dir := os.Getenv("COATCHECK_TEST_LOGS")
	if dir == "" {
		return
	}
	f, err := os.CreateTemp(dir, "server-*.log")
	require.NoError(t, err)
	_, err = f.WriteString(t.Name() + "\n" + text)
	require.NoError(t, errors.Join(err, f.Close()))
}

func (b *logBuffer) lines() []string {
	return strings.FieldsFunc(b.text(), func(r rune) bool { return r == '\n' })
}

// events are the lines that tell of something, and not of a request only.
func (b *logBuffer) events() []string {
	return slices.DeleteFunc(b.lines(), func(line string) bool { return strings.Contains(line, `"level":"DEBUG","msg":"request"`) })
}

// maxLogLine bounds a log line: six bytes for each of a few hundred, and the stack where there was a panic.
const maxLogLine = 16 << 10

var tokenShaped = regexp.MustCompile(`[A-Za-z0-9_-]{43,}`)

// checkLogs holds for every rule: each line is JSON of bounded length, and no secret is in any of them.
func (h *harness) checkLogs() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, line := range h.logs.lines() {
		assert.True(h, json.Valid([]byte(line)), "not one JSON value: %.200q", line)
		assert.LessOrEqual(h, len(line), maxLogLine, "%.200q", line)
		for _, text := range tokenShaped.FindAllString(line, -1) {
			for i := 0; i+coatcheck.TokenLen <= len(text); i++ {
				assert.False(h, h.issued[text[i:i+coatcheck.TokenLen]], "a token is in the log: %.300q", line)
			}
		}
		for _, canary := range h.canaries {
			assert.NotContains(h, line, canary)
		}
	}
}

// canonical decodes and encodes a token.
func canonical(t testing.TB, token string) string {
	t.Helper()
	return base64.RawURLEncoding.EncodeToString(rawToken(t, token))
}

// newCtx is a request that came over no connection.
func newCtx(method, uri string) *fasthttp.RequestCtx {
	ctx := new(fasthttp.RequestCtx)
	ctx.Init(new(fasthttp.Request), &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, nil)
	ctx.Request.Header.SetMethod(method)
	ctx.Request.SetRequestURI(uri)
	return ctx
}
