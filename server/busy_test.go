package server_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
)

// ahead is a store in which another request was always faster.
type ahead struct{ coatcheck.Store }

func (a ahead) Swap(ctx context.Context, rec *coatcheck.Record, _ uint64, now time.Time, cur *coatcheck.Record) error {
	if err := a.Load(ctx, rec.Key, coatcheck.ID{}, now, cur); err != nil {
		return err
	}
	return coatcheck.ErrConflict
}

// A session that others keep changing is no failure of the store, in the answer or in the log.
func TestBusySessionIsNoFailureOfTheStore(t *testing.T) {
	var out bytes.Buffer
	c := newClient(t, ahead{newStore(t)}, server.Config{
		Policy: coatcheck.Policy{RetryFor: time.Millisecond}, Logger: slog.New(slog.NewTextHandler(&out, nil)),
	})
	resp := c.do("POST", "/auth/refresh", "", cookieLine(c.login("ann")))
	assert.Equal(t, 503, resp.StatusCode())
	assert.Contains(t, string(resp.Body()), `"session_busy"`)
	assert.NotContains(t, out.String(), "store_error")
	assert.Contains(t, out.String(), "the session's changes were not persisted")
}
