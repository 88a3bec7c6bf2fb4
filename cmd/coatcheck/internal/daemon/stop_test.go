package daemon

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/shardstore"
)

// A server without a request cuts none off, however short the time to stop is: a listener may take longer to return.
func TestStopWithoutRequests(t *testing.T) {
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	srv, err := server.New(store, server.Config{Login: login.Open{}})
	require.NoError(t, err)
	d := &daemon{Options: Options{Config: new(config.Config)}, deadline: time.Now()}
	assert.NoError(t, d.stop(srv, make(chan error), 2))
}
