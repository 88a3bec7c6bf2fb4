package conn

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// Nobody accepts what stood in the queue when the last Accept had failed before: it is closed, and forgotten.
func TestDrainClosesABacklogThatNobodyAccepts(t *testing.T) {
	ln := listenLocal(t)
	d := &Server{HTTP: &fasthttp.Server{Handler: func(*fasthttp.RequestCtx) {}}}
	broken := errors.New("the listener is broken")
	require.ErrorIs(t, d.Serve(&short{Listener: ln, errors: []error{broken}}, nil, slog.New(slog.DiscardHandler)), broken)
	p := d.open[0]
	p.Listener = ln // whose queue can be had
	client := connect(t, ln)
	require.NoError(t, client.SetReadDeadline(time.Now().Add(2*time.Second)))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.NoError(t, d.Drain(ctx))
	_, err := client.Read(make([]byte, 1))
	require.Error(t, err)
	assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	assert.Empty(t, p.conns)
}
