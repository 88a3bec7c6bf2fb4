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

// A visitor is polite while others come and go too, and for some answers after anybody woke.
func TestPoliteVisitors(t *testing.T) {
	p := new(porch)
	one, other := &visitor{porch: p}, &visitor{porch: p}
	for range 3 {
		one.wakes()
		assert.False(t, one.polite(), "nobody else is there")
	}
	other.wakes()
	one.wakes()
	for range (politeFor - 1) / 2 {
		assert.True(t, one.polite())
		assert.True(t, other.polite())
	}
	one.polite()
	assert.False(t, one.polite(), "who sleeps must be looked for")
	assert.False(t, other.polite())

	other.wakes()
	assert.True(t, one.polite(), "the other one woke, so it was looked for")
	for range 2 {
		one.wakes()
	}
	assert.False(t, one.polite(), "the other one came no more")
}

// A read after an answer that finds nothing is a visitor that sleeps and wakes; one that finds something is not.
func TestVisitorsWake(t *testing.T) {
	ln := listenLocal(t)
	p := quietPorch(ln)
	client := connect(t, ln)
	conn, err := p.Accept()
	require.NoError(t, err)
	v := visitorOf(conn)
	require.NotNil(t, v)
	for _, there := range []bool{true, false} {
		noteState(v, fasthttp.StateIdle)
		p.turns.Store(politeFor) // nobody is polite
		before := p.wakes.Load()
		sent := make(chan error, 1)
		go func() {
			if !there {
				time.Sleep(5 * time.Millisecond)
			}
			_, err := client.Write([]byte("x"))
			sent <- err
		}()
		if there {
			require.Eventually(t, func() bool { return unread(v.Conn) }, 10*time.Second, time.Millisecond)
		}
		_, err = v.Read(make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, <-sent)
		if there || !canTry {
			assert.Equal(t, before, p.wakes.Load())
			assert.Greater(t, p.turns.Load(), int64(politeFor))
		} else {
			assert.Equal(t, before+1, p.wakes.Load())
			assert.Zero(t, p.turns.Load(), "who woke lets others go first again")
		}
	}
	require.NoError(t, v.Close())
	require.NoError(t, p.Close())
}

// Nobody accepts what stood in the queue when the last Accept had failed before: it is closed, and forgotten.
func TestQueueThatNobodyAccepts(t *testing.T) {
	ln := listenLocal(t)
	d := &Door{Srv: &fasthttp.Server{Handler: func(*fasthttp.RequestCtx) {}}}
	broken := errors.New("the listener is broken")
	require.ErrorIs(t, d.Serve(&short{Listener: ln, errors: []error{broken}}, nil, slog.New(slog.DiscardHandler)), broken)
	p := d.open[0]
	p.Listener = ln // whose queue can be had
	client := connect(t, ln)
	require.NoError(t, client.SetReadDeadline(time.Now().Add(2*time.Second)))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.NoError(t, d.Shut(ctx))
	_, err := client.Read(make([]byte, 1))
	require.Error(t, err)
	assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	assert.Empty(t, p.visitors)
}
