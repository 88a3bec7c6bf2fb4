package servertest

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var shutdownRules = []rule{
	{name: "in order", config: withMode(blocking), check: checkShutdownOrder},
	{name: "nobody is cut off", check: checkShutdownUnderLoad},
	{name: "the deadline", config: withMode(blocking), check: checkShutdownDeadline},
	{name: "before it serves", check: checkShutdownFirst},
}

// blocking is a login mode that lets a test hold a request in flight.
var blocking = new(mode)

// OPS-01: readiness fails first, a request in flight is answered, idle connections are closed, Serve returns.
func checkShutdownOrder(h *harness) {
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	blocking.during = func() {
		once.Do(func() {
			close(entered)
			<-release
		})
	}
	idle := h.wire.open(h)
	_, err := idle.roundTrip("GET", request{"GET", "/auth/me", nil, ""}.text("x"))
	require.NoError(h, err)

	user := h.user()
	answered := make(chan response, 1)
	go func() {
		resp, _ := h.wire.send(request{"POST", "/auth/login", []string{asJSON}, `{"user_id":"` + user + `"}`})
		answered <- resp
	}()
	<-entered
	require.Equal(h, 200, h.adminDo("GET", "/readyz").status)
	down := make(chan error, 1)
	go func() { down <- h.srv.Shutdown(context.Background()) }()

	ready := func() response {
		resp, err := h.admin.send(request{method: "GET", path: "/readyz"})
		require.NoError(h, err)
		return resp
	}
	var resp response
	require.Eventually(h, func() bool { resp = ready(); return resp.status == 503 }, patience, time.Millisecond)
	assert.Equal(h, "stopping", resp.code())
	me, err := h.wire.send(request{method: "GET", path: "/auth/me"})
	require.NoError(h, err, "a new request just after readiness went red")
	assert.Equal(h, 200, me.status)
	assert.True(h, me.close, "and is told to leave")
	_, closed := idle.statuses(patience)
	assert.True(h, closed, "an idle connection is closed")
	require.Eventually(h, func() bool {
		c, err := dialTCP(h.wire.addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	}, patience, time.Millisecond, "accepting stops")
	assert.Equal(h, 503, ready().status, "the admin listener answers to the last")
	select {
	case err := <-down:
		assert.Fail(h, "Shutdown returned with a request in flight", err)
	default:
	}
	close(release)
	login := <-answered
	assert.Equal(h, 200, login.status, "the request in flight is answered")
	assert.NotEmpty(h, login.header["Set-Cookie"])
	assert.NoError(h, <-down)
	_, err = dialTCP(h.admin.addr)
	assert.Error(h, err, "and then it is gone, too")
}

func checkShutdownUnderLoad(h *harness) {
	token := h.login(h.user())
	var stop atomic.Bool
	var served atomic.Int64
	var load sync.WaitGroup
	for range 8 {
		load.Go(func() {
			for !stop.Load() {
				resp, err := h.wire.send(request{"GET", "/auth/me", []string{h.cookie(token)}, ""})
				if !assert.NoError(h, err, "a request was cut off") {
					return
				}
				assert.Equal(h, 200, resp.status)
				served.Add(1)
			}
		})
	}
	require.Eventually(h, func() bool { return served.Load() > 100 }, patience, time.Millisecond)
	down := make(chan error, 1)
	go func() { down <- h.srv.Shutdown(context.Background()) }()
	require.Eventually(h, func() bool {
		resp, err := h.admin.send(request{method: "GET", path: "/readyz"})
		return err == nil && resp.status == 503
	}, patience, time.Millisecond)
	stop.Store(true) // the balancer has seen it
	load.Wait()
	assert.NoError(h, <-down)
}

func checkShutdownDeadline(h *harness) {
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	blocking.during = func() {
		once.Do(func() {
			close(entered)
			<-release
		})
	}
	var load sync.WaitGroup
	load.Go(func() {
		_, _ = h.wire.send(request{"POST", "/auth/login", []string{asJSON}, `{"user_id":"` + h.user() + `"}`})
	})
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	assert.ErrorIs(h, h.srv.Shutdown(ctx), context.DeadlineExceeded)
	assert.Less(h, time.Since(start), 5*time.Second)
	close(release)
	load.Wait()
}

func checkShutdownFirst(h *harness) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = h.srv.Shutdown(ctx)
	for _, serve := range []func(net.Listener) error{h.srv.Serve, h.srv.ServeAdmin} {
		ln := listen(h.T)
		assert.NoError(h, serve(ln), "it returns at once")
		_, err := dialTCP(ln.Addr().String())
		assert.Error(h, err)
	}
}
