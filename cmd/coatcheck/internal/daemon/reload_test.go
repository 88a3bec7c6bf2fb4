package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/shardstore"
)

// away is a store that ends nobody's sessions while it is down.
type away struct {
	coatcheck.Store
	down  bool
	asked int
	ended []string
}

func (s *away) EndUser(ctx context.Context, user string, keep coatcheck.Key, now, until time.Time) (int, error) {
	s.asked++
	if s.down {
		return 0, fmt.Errorf("%w: away", coatcheck.ErrUnavailable)
	}
	s.ended = append(s.ended, user)
	return s.Store.EndUser(ctx, user, keep, now, until)
}

// REV-02: the sessions of a user whose account changed end, even if the store was down when the file was re-read; and nobody
// waits for a store that is down once for each user.
func TestRereadOwesTheEnd(t *testing.T) {
	memory, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, memory.Close()) })
	store := &away{Store: memory, down: true}
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	srv, err := server.New(store, server.Config{Login: login.Open{}, Logger: log})
	require.NoError(t, err)
	changed := []string{"ann", "bob", "cid"}
	o := &credentials.Opened{Reload: []func() ([]string, error){func() ([]string, error) { return changed, nil }}}
	again := func() (*config.Config, error) { return nil, errors.New("none") }

	reread(o, again, srv, log)
	assert.Equal(t, 1, store.asked, "the store is down for all of them")
	assert.Contains(t, out.String(), `"users":3`)
	changed = []string{"bob", "dan"}
	reread(o, again, srv, log)
	endOwed(o, srv, log)
	assert.Empty(t, store.ended)
	store.down = false
	endOwed(o, srv, log)
	assert.Equal(t, []string{"ann", "bob", "cid", "dan"}, store.ended)
	store.asked = 0
	endOwed(o, srv, log)
	assert.Zero(t, store.asked, "nothing is owed any more")
}
