package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
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
	store, err := openStore(&config.Config{Store: "redis", Redis: redisstore.Options{URL: "redis://" + ln.Addr().String(), AllowEviction: true}}, slog.New(slog.DiscardHandler))
	if assert.NoError(t, err) {
		assert.NoError(t, store.Ping(t.Context()))
		assert.NoError(t, store.Close())
	}
	require.NoError(t, ln.Close())
	require.NoError(t, (<-silent).Close())
	pipes.Wait()
}

// A Redis that refuses is not waited for.
func TestSlow(t *testing.T) {
	for err, want := range map[error]bool{
		nil: false, syscall.ECONNREFUSED: false, context.Canceled: false, coatcheck.ErrUnavailable: false,
		os.ErrDeadlineExceeded: true, context.DeadlineExceeded: true,
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
