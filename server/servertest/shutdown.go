package servertest

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/httpcontract"
)

var shutdownRules = []rule{
	{name: "in order", config: scripted, transport: true, check: checkShutdownOrder},
	{name: "nobody is cut off", transport: true, check: checkShutdownUnderLoad},
	{name: "the deadline", config: scripted, transport: true, check: checkShutdownDeadline},
	{name: "before it serves", transport: true, check: checkShutdownFirst},
}

// OPS-01: readiness fails first, a request in flight is answered, idle connections are closed, Serve returns.
func checkShutdownOrder(h *harness) {
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h.mode.during = func() {
		once.Do(func() {
			close(entered)
			<-release
		})
	}
	idle := h.Wire.Open(h)
	_, err := idle.RoundTrip("GET", request{Method: "GET", Path: "/auth/me", Head: nil, Body: ""}.Text("x"))
	require.NoError(h, err)

	user := h.User()
	answered := make(chan response, 1)
	go func() {
		resp, _ := h.Wire.Send(request{Method: "POST", Path: "/auth/login", Head: []string{asJSON}, Body: `{"user_id":"` + user + `"}`})
		answered <- resp
	}()
	<-entered
	require.Equal(h, 200, h.adminDo("GET", "/readyz").Status)
	down := make(chan error, 1)
	go func() { down <- h.srv.Shutdown(context.Background()) }()

	ready := func() response {
		resp, err := h.admin.Send(request{Method: "GET", Path: "/readyz"})
		require.NoError(h, err)
		return resp
	}
	var resp response
	require.Eventually(h, func() bool { resp = ready(); return resp.Status == 503 }, patience, time.Millisecond)
	assert.Equal(h, "stopping", resp.Code())
	me, err := h.Wire.Send(request{Method: "GET", Path: "/auth/me"})
	require.NoError(h, err, "a new request just after readiness has failed")
	assert.Equal(h, 200, me.Status)
	assert.True(h, me.Close, "and its connection closes with the answer")
	_, closed := idle.Statuses(patience)
	assert.True(h, closed, "an idle connection is closed")
	require.Eventually(h, func() bool {
		c, err := httpcontract.DialTCP(h.Wire.Addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	}, patience, time.Millisecond, "accepting stops")
	assert.Equal(h, 503, ready().Status, "the admin listener answers until the end")
	select {
	case err := <-down:
		assert.Fail(h, "Shutdown returned with a request in flight", err)
	default:
	}
	close(release)
	login := <-answered
	assert.Equal(h, 200, login.Status, "the request in flight is answered")
	assert.NotEmpty(h, login.Header["Set-Cookie"])
	assert.NoError(h, <-down)
	_, err = httpcontract.DialTCP(h.admin.Addr)
	assert.Error(h, err, "and then the admin listener is closed, too")
}

func checkShutdownUnderLoad(h *harness) {
	token := h.Login(h.User())
	var stop atomic.Bool
	var served atomic.Int64
	var load sync.WaitGroup
	for range 8 {
		load.Go(func() {
			for !stop.Load() {
				resp, err := h.Wire.Send(request{Method: "GET", Path: "/auth/me", Head: []string{h.Cookie(token)}, Body: ""})
				if !assert.NoError(h, err, "a request was cut off") {
					return
				}
				assert.Equal(h, 200, resp.Status)
				served.Add(1)
			}
		})
	}
	require.Eventually(h, func() bool { return served.Load() > 100 }, patience, time.Millisecond)
	down := make(chan error, 1)
	go func() { down <- h.srv.Shutdown(context.Background()) }()
	require.Eventually(h, func() bool {
		resp, err := h.admin.Send(request{Method: "GET", Path: "/readyz"})
		return err == nil && resp.Status == 503
	}, patience, time.Millisecond)
	stop.Store(true) // the load balancer has seen the failure
	load.Wait()
	assert.NoError(h, <-down)
}

func checkShutdownDeadline(h *harness) {
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h.mode.during = func() {
		once.Do(func() {
			close(entered)
			<-release
		})
	}
	var load sync.WaitGroup
	load.Go(func() {
		_, _ = h.Wire.Send(request{Method: "POST", Path: "/auth/login", Head: []string{asJSON}, Body: `{"user_id":"` + h.User() + `"}`})
	})
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	assert.ErrorIs(h, h.srv.Shutdown(ctx), context.DeadlineExceeded)
	assert.Less(h, time.Since(start), patience)
	close(release)
	load.Wait()
}

func checkShutdownFirst(h *harness) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = h.srv.Shutdown(ctx)
	for _, serve := range []func(net.Listener) error{h.srv.Serve, h.srv.ServeAdmin} {
		ln := httpcontract.Listen(h.T)
		assert.NoError(h, serve(ln), "it returns at once")
		_, err := httpcontract.DialTCP(ln.Addr().String())
		assert.Error(h, err)
	}
}
