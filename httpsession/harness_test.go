package httpsession_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testoutput"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/httpsession"
	"github.com/coatcheck/coatcheck/shardstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// faultyStore is a memory store whose operations fail on demand.
type faultyStore struct {
	coatcheck.Store

	mu      sync.Mutex
	failing map[string]error // guarded by mu: by operation
	calls   map[string]int   // guarded by mu
	seen    context.Context  // guarded by mu: of the last operation
}

func newStore(t testing.TB) *faultyStore {
	t.Helper()
	store, err := shardstore.New(shardstore.Options{JanitorEvery: time.Hour})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	return &faultyStore{Store: store, failing: map[string]error{}, calls: map[string]int{}}
}

// fail makes operations fail; without any, none.
func (s *faultyStore) fail(ops ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.failing)
	for _, op := range ops {
		s.failing[op] = coatcheck.ErrUnavailable
	}
}

func (s *faultyStore) called(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// context returns that of the last operation.
func (s *faultyStore) context() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

func (s *faultyStore) at(ctx context.Context, op string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[op]++
	s.seen = ctx
	return s.failing[op]
}

func (s *faultyStore) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	if err := s.at(ctx, "Load"); err != nil {
		return err
	}
	return s.Store.Load(ctx, key, id, now, rec)
}

func (s *faultyStore) Create(ctx context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (int, error) {
	if err := s.at(ctx, "Create"); err != nil {
		return 0, err
	}
	return s.Store.Create(ctx, rec, opt, now)
}

func (s *faultyStore) Swap(ctx context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	if err := s.at(ctx, "Swap"); err != nil {
		return err
	}
	return s.Store.Swap(ctx, rec, old, now, cur)
}

func (s *faultyStore) End(ctx context.Context, key coatcheck.Key, user string, now, until time.Time, last *coatcheck.Record) error {
	if err := s.at(ctx, "End"); err != nil {
		return err
	}
	return s.Store.End(ctx, key, user, now, until, last)
}

// site is an application behind the middleware, and a client of it.
type site struct {
	*testing.T
	store   *faultyStore
	log     *testoutput.Buffer
	manager *coatcheck.Manager
	client  *http.Client
	url     string
}

const cookieName = "__Host-coatcheck"

// newSite serves a handler behind the middleware, and behind the outer one if that is not nil. Paths that every application has:
// /login?user=, /value, which sets the value v to its query's, and /show, which answers with user and value.
func newSite(t *testing.T, handler http.HandlerFunc, outer func(http.Handler) http.Handler) *site {
	t.Helper()
	return newSiteWith(t, handler, outer, func(*httptest.Server) {})
}

// newSite2 is newSite over HTTP/2.
func newSite2(t *testing.T, handler http.HandlerFunc, outer func(http.Handler) http.Handler) *site {
	t.Helper()
	return newSiteWith(t, handler, outer, func(s *httptest.Server) { s.EnableHTTP2 = true })
}

func newSiteWith(t *testing.T, handler http.HandlerFunc, outer func(http.Handler) http.Handler, edit func(*httptest.Server)) *site {
	t.Helper()
	s := &site{T: t, store: newStore(t), log: new(testoutput.Buffer)}
	var err error
	s.manager, err = coatcheck.NewManager(s.store, coatcheck.Policy{})
	require.NoError(t, err)
	wrap, err := httpsession.NewFor(s.manager, httpsession.Config{Logger: slog.New(slog.NewTextHandler(s.log, nil))})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(_ http.ResponseWriter, r *http.Request) {
		assert.NoError(t, httpsession.Get(r).Authenticate(r.FormValue("user")))
	})
	mux.HandleFunc("/value", func(_ http.ResponseWriter, r *http.Request) {
		assert.NoError(t, httpsession.Get(r).Insert("v", r.URL.RawQuery))
	})
	mux.HandleFunc("/show", show)
	if handler != nil {
		mux.HandleFunc("/", handler)
	}
	app := wrap(mux)
	if outer != nil {
		app = outer(app)
	}
	server := httptest.NewUnstartedServer(app)
	server.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(s.log, nil), slog.LevelError)
	edit(server)
	if server.EnableHTTP2 {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	s.client, s.url = server.Client(), server.URL
	s.client.Timeout = 20 * time.Second // what should have been answered
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s
}

// show answers with the session's user and value.
func show(w http.ResponseWriter, r *http.Request) {
	s := httpsession.Get(r)
	v, _ := coatcheck.Get[string](s, "v") // none is empty
	_, _ = io.WriteString(w, s.UserID()+" "+v)
}

// reply is what the application answered.
type reply struct {
	status int
	header http.Header
	body   string
}

// token returns the session cookie that the answer sets, as the line that sends it; empty if it sets none.
func (r reply) token() string {
	for _, line := range r.header.Values("Set-Cookie") {
		if c, err := http.ParseSetCookie(line); err == nil && c.Name == cookieName && c.MaxAge > 0 {
			return c.Name + "=" + c.Value
		}
	}
	return ""
}

func (s *site) do(method, path, cookie string, body io.Reader) reply {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), method, s.url+path, body)
	require.NoError(s, err)
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	resp, err := s.client.Do(req)
	require.NoError(s, err)
	defer resp.Body.Close() //nolint:errcheck // the body has been read
	text, err := io.ReadAll(resp.Body)
	require.NoError(s, err)
	for name := range resp.Trailer {
		resp.Header["trailer "+name] = resp.Trailer[name]
	}
	return reply{resp.StatusCode, resp.Header, string(text)}
}

func (s *site) get(path, cookie string) reply {
	s.Helper()
	return s.do("GET", path, cookie, http.NoBody)
}

// login logs a user in and returns the cookie.
func (s *site) login(user string) string {
	s.Helper()
	cookie := s.get("/login?user="+user, "").token()
	require.NotEmpty(s, cookie)
	return cookie
}

// shows asserts what the session of the cookie holds.
func (s *site) shows(cookie, want string, why ...any) {
	s.Helper()
	assert.Equal(s, want, s.get("/show", cookie).body, why...)
}

// eventuallyLogs waits until the log has the text.
func (s *site) eventuallyLogs(text string) {
	s.Helper()
	require.Eventually(s, func() bool { return strings.Contains(s.log.String(), text) }, 10*time.Second, time.Millisecond, "%s", text)
}

// eventuallyShows waits until the session of the cookie holds what is wanted, where its handler may still run.
func (s *site) eventuallyShows(cookie, want string) {
	s.Helper()
	require.Eventually(s, func() bool { return s.get("/show", cookie).body == want }, 10*time.Second, time.Millisecond, want)
}
