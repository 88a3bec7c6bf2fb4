package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/shardstore"
)

// A profile that is being taken ends when the server begins to stop: whoever asked for five minutes gets what there is, and the stop
// succeeds.
func TestStopEndsProfiles(t *testing.T) {
	const patience = time.Minute // a profile that does not end takes five
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	srv, err := server.New(store, server.Config{Login: login.Open{}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- srv.ServeAdmin(ln) }()

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) (status int, body []byte, err error) {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+ln.Addr().String()+path, http.NoBody)
		if err != nil {
			return 0, nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, nil, err
		}
		body, err = io.ReadAll(resp.Body)
		return resp.StatusCode, body, errors.Join(err, resp.Body.Close())
	}
	type answer struct {
		status int
		body   []byte
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		var a answer
		a.status, a.body, a.err = get("/debug/pprof/profile?seconds=300")
		answered <- a
	}()
	require.Eventually(t, func() bool {
		_, stacks, err := get("/debug/pprof/goroutine?debug=1")
		return err == nil && bytes.Contains(stacks, []byte("timedProfile")) // somebody waits there
	}, patience, 10*time.Millisecond)

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, srv.Shutdown(ctx))
	require.NoError(t, <-served)
	a := <-answered
	require.NoError(t, a.err)
	assert.Equal(t, http.StatusOK, a.status)
	assert.NotEmpty(t, a.body)
}
