package server_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
)

// traced keeps what Config.Trace was told, and how it ended.
type traced struct {
	server.TracedRequest
	statuses []int
}

// traceLog is a Config.Trace, and a store that knows in which request it is asked.
type traceLog struct {
	coatcheck.Store
	mu       sync.Mutex
	requests []*traced
	within   map[*traced][]string // the operations of each
	fail     func()
}

type tracedKey struct{}

func (l *traceLog) trace(r server.TracedRequest) (context.Context, func(int)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := &traced{TracedRequest: r}
	l.requests = append(l.requests, now)
	return context.WithValue(context.Background(), tracedKey{}, now), func(status int) { now.statuses = append(now.statuses, status) }
}

func (l *traceLog) note(ctx context.Context, operation string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, _ := ctx.Value(tracedKey{}).(*traced)
	l.within[r] = append(l.within[r], operation)
}

func (l *traceLog) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	l.note(ctx, "load")
	if l.fail != nil {
		l.fail()
	}
	return l.Store.Load(ctx, key, id, now, rec)
}

func (l *traceLog) Mark(ctx context.Context, user string, now time.Time) (coatcheck.Mark, error) {
	l.note(ctx, "mark")
	return l.Store.Mark(ctx, user, now)
}

func (l *traceLog) Create(ctx context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (int, error) {
	l.note(ctx, "create")
	return l.Store.Create(ctx, rec, opt, now)
}

func (l *traceLog) Swap(ctx context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	l.note(ctx, "swap")
	return l.Store.Swap(ctx, rec, old, now, cur)
}

func (l *traceLog) End(ctx context.Context, key coatcheck.Key, user string, now, until time.Time, last *coatcheck.Record) error {
	l.note(ctx, "end")
	return l.Store.End(ctx, key, user, now, until, last)
}

func (l *traceLog) List(ctx context.Context, user string, now time.Time, yield func(*coatcheck.Record) bool) error {
	l.note(ctx, "list")
	return l.Store.List(ctx, user, now, yield)
}

func (l *traceLog) EndUser(ctx context.Context, user string, keep coatcheck.Key, mark bool, now, until time.Time) (int, error) {
	l.note(ctx, "end_user")
	return l.Store.EndUser(ctx, user, keep, mark, now, until)
}

func (l *traceLog) last() *traced { return l.requests[len(l.requests)-1] }

func newTraced(t *testing.T, cfg server.Config) (*client, *traceLog) {
	t.Helper()
	l := &traceLog{Store: newStore(t), within: make(map[*traced][]string)}
	cfg.Trace = l.trace
	return newClient(t, l, cfg), l
}

// Every request is told of once, by its route and nothing that the client wrote, and ended once; whatever it asks of the store is
// asked within it.
func TestTrace(t *testing.T) {
	c, l := newTraced(t, server.Config{})
	token := c.login("user-42")
	other := c.login("user-42")
	for _, tt := range []struct {
		method, path, cookie, route string
		status                      int
		store                       []string
	}{
		{"GET", "/auth/me?s3cret", token, "/auth/me", 200, []string{"load"}},
		{"HEAD", "/auth/me", token, "/auth/me", 200, []string{"load"}},
		{"PUT", "/auth/verify", token, "/auth/verify", 200, []string{"load"}},
		{"GET", "/auth/sessions", token, "/auth/sessions", 200, []string{"load", "list"}},
		{"DELETE", "/auth/sessions/handlesparrowAAAAAAAAA", token, "/auth/sessions/{id}", 404, []string{"load", "list"}},
		{"POST", "/auth/refresh", other, "/auth/refresh", 200, []string{"load", "swap"}},
		{"DELETE", "/auth/sessions?current=true", token, "/auth/sessions", 200, []string{"load", "end_user", "end"}},
		{"GET", "/auth/sessions", token, "/auth/sessions", 401, []string{"load"}},
		{"PUT", "/auth/me", token, "", 405, nil},
		{"GET", "/s3cret", token, "", 404, nil},
		{"S3CRET", "/auth/me", token, "_OTHER", 405, nil},
	} {
		t.Run(fmt.Sprintf("%d %s", tt.status, tt.route), func(t *testing.T) { // the path may hold what the canary run looks for
			before := len(l.requests)
			resp := c.do(tt.method, tt.path, "", cookieLine(tt.cookie), "Traceparent: s3cret")
			require.Equal(t, tt.status, resp.StatusCode(), string(resp.Body()))
			require.Len(t, l.requests, before+1)
			want := server.TracedRequest{Method: tt.method, Route: tt.route}
			if tt.route == "_OTHER" {
				want = server.TracedRequest{Method: "_OTHER"}
			}
			assert.Equal(t, want, l.last().TracedRequest)
			assert.Equal(t, []int{tt.status}, l.last().statuses)
			assert.Equal(t, tt.store, l.within[l.last()])
		})
	}
	for _, first := range l.requests[:2] {
		assert.Equal(t, []string{"create"}, l.within[first], "a login")
	}
	assert.Empty(t, l.within[nil], "operations outside of a request")
}

// A request that fails or panics ends, too.
func TestTraceOfFailures(t *testing.T) {
	c, l := newTraced(t, server.Config{})
	token := c.login("user-42")
	l.fail = func() { panic(errors.New("the store")) }
	assert.Equal(t, 500, c.do("GET", "/auth/me", "", cookieLine(token)).StatusCode())
	assert.Equal(t, []int{500}, l.last().statuses)
}

// Only a trusted proxy may say which trace a request belongs to, and that is recorded.
func TestTraceparent(t *testing.T) {
	const header, second = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	c, l := newTraced(t, server.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	for name, tt := range map[string]struct {
		peer string
		head []string
		want string
	}{
		"a proxy":          {"10.1.2.3", []string{"traceparent: " + header}, header},
		"a stranger":       {"192.0.2.1", []string{"Traceparent: " + header}, ""},
		"one who claims":   {"192.0.2.1", []string{"Traceparent: " + header, "X-Forwarded-For: 10.1.2.3"}, ""},
		"a proxy, twice":   {"10.1.2.3", []string{"Traceparent: " + header, "Traceparent: " + second}, ""},
		"a proxy, without": {"10.1.2.3", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.ctx.Init(new(fasthttp.Request), &net.TCPAddr{IP: net.ParseIP(tt.peer), Port: 40000}, nil)
			require.Equal(t, 200, c.do("GET", "/auth/me", "", tt.head...).StatusCode())
			assert.Equal(t, tt.want, l.last().Traceparent)
		})
	}
}
