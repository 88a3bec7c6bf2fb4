package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/internal/testoutput"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// A Redis that accepts a connection and does not answer on it in time keeps no server from starting.
func TestSlowRedisAtTheStart(t *testing.T) {
	redis := redistest.Start(t)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var pipes sync.WaitGroup
	silent := make(chan net.Conn, 1)
	pipes.Go(func() {
		for first := true; ; first = false {
			client, err := ln.Accept()
			switch {
			case err != nil:
				return
			case first:
				silent <- client
			default:
				pipes.Go(func() { pipe(t, client, redis.Addr()) })
			}
		}
	})
	log := new(testoutput.Buffer)
	store, err := openStore(&config.Config{Store: "redis", Redis: redisstore.Options{URL: "redis://" + ln.Addr().String(), AllowEviction: true, Timeout: 3 * time.Second}}, slog.New(slog.NewTextHandler(log, nil)))
	if assert.NoError(t, err) {
		assert.Equal(t, 1, strings.Count(log.String(), "Redis is slow to answer"), log)
		assert.Eventually(t, func() bool { return store.Ping(t.Context()) == nil }, time.Minute, time.Millisecond)
		assert.NoError(t, store.Close())
	}
	require.NoError(t, ln.Close())
	require.NoError(t, (<-silent).Close())
	pipes.Wait()
}

// When the time is up the error says what was wrong before that.
func TestSilentRedisAtTheStart(t *testing.T) {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for n := 1; ; n++ {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			if n == 2 {
				cancel()
			}
		}
	})
	_, err = openRedis(ctx, redisstore.Options{URL: "redis://" + ln.Addr().String(), Logger: slog.New(slog.DiscardHandler)})
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NotErrorIs(t, err, context.Canceled)
	require.NoError(t, ln.Close())
	accepting.Wait()
}

// A Redis that refuses, or that cannot be reached, is not waited for.
func TestSlow(t *testing.T) {
	for err, want := range map[error]bool{
		nil: false, syscall.ECONNREFUSED: false, context.Canceled: false, coatcheck.ErrUnavailable: false,
		&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}: false, &net.OpError{Op: "dial", Err: context.DeadlineExceeded}: false,
		&net.DNSError{IsTimeout: true, UnwrapErr: context.DeadlineExceeded}: false,
		&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}:               true, context.DeadlineExceeded: true,
	} {
		if err != nil {
			err = fmt.Errorf("connecting: %w: %w", coatcheck.ErrUnavailable, err)
		}
		assert.Equal(t, want, slow(err), "%v", err)
	}
}

// pipe connects a client with a server until one of them closes.
func pipe(t *testing.T, client net.Conn, addr string) {
	server, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if !assert.NoError(t, err) {
		_ = client.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(server, client); _ = server.Close() })
	both.Go(func() { _, _ = io.Copy(client, server); _ = client.Close() })
	both.Wait()
}
