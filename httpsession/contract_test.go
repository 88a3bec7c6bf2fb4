package httpsession_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/httpsession"
	"github.com/coatcheck/coatcheck/internal/middlewaretest"
	"github.com/coatcheck/coatcheck/shardstore"
)

// The contract of all middlewares, with net/http.
func TestContract(t *testing.T) {
	middlewaretest.Run(t, func(t *testing.T) coatcheck.Store {
		// The janitor goes by the real time, and these tests' clocks go their own way.
		store, err := shardstore.New(shardstore.Options{Shards: 4, JanitorEvery: time.Hour})
		require.NoError(t, err)
		return store
	}, middlewaretest.Driver{
		New: func(store coatcheck.Store, cfg httpsession.Config) error {
			_, err := httpsession.New(store, cfg)
			return err
		},
		Serve:   serveContract,
		Streams: true,
	})
}

// serveContract serves an application of the contract.
func serveContract(t *testing.T, ln net.Listener, app middlewaretest.App) {
	t.Helper()
	mux := http.NewServeMux()
	for path, handle := range app.Handlers {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { answerWith(handle, &contractRequest{w: w, r: r}) })
	}
	var handler http.Handler = mux
	for i := len(app.Layers) - 1; i >= 0; i-- {
		handler = contractLayer(t, app.Layers[i], handler)
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if app.Outside != nil {
				defer app.Outside(&contractRequest{w: w, r: r})
			}
			handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	var served sync.WaitGroup
	served.Go(func() { assert.ErrorIs(t, srv.Serve(ln), http.ErrServerClosed) })
	t.Cleanup(func() {
		_ = srv.Close()
		served.Wait()
	})
}

func answerWith(handle middlewaretest.Handler, c *contractRequest) {
	err := handle(c)
	var want *middlewaretest.Error
	switch {
	case errors.As(err, &want):
		http.Error(c.w, want.Text, want.Status)
	case err != nil:
		http.Error(c.w, "it failed", http.StatusInternalServerError)
	default:
		c.begin()
	}
}

func contractLayer(t *testing.T, l middlewaretest.Layer, next http.Handler) http.Handler {
	t.Helper()
	switch {
	case l.Sessions != nil:
		wrap, err := httpsession.New(l.Sessions.Store, l.Sessions.Config)
		require.NoError(t, err)
		return wrap(next)
	case l.Headers != nil:
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for name, value := range l.Headers {
				w.Header().Set(name, value)
			}
			next.ServeHTTP(w, r)
		})
	case l.Recover:
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				if recover() != nil {
					w.WriteHeader(http.StatusInternalServerError)
				}
			}()
			next.ServeHTTP(w, r)
		})
	case l.CSRF != nil:
		return httpsession.CSRF{CSRF: l.CSRF}.Check(next)
	case l.Poison: // net/http hands out strings, and the body that a handler has read is its own
		return next
	default:
		require.FailNow(t, "a layer of no kind")
		return nil
	}
}

// contractRequest is a request of net/http's, as the contract sees it.
type contractRequest struct {
	w      http.ResponseWriter
	r      *http.Request
	status int
}

// begin sends the status, if a handler has set one.
func (r *contractRequest) begin() {
	if r.status != 0 {
		r.w.WriteHeader(r.status)
		r.status = 0
	}
}

func (r *contractRequest) Session() *coatcheck.Session          { return httpsession.Get(r.r) }
func (r *contractRequest) Named(name string) *coatcheck.Session { return httpsession.Named(r.r, name) }
func (r *contractRequest) Query(name string) string             { return r.r.URL.Query().Get(name) }
func (r *contractRequest) SetHeader(name, value string)         { r.w.Header().Set(name, value) }
func (r *contractRequest) Status(code int)                      { r.status = code }
func (r *contractRequest) Context() context.Context             { return r.r.Context() }

func (r *contractRequest) RegisterDevice() error {
	httpsession.RegisterDevice(r.w, r.r)
	return nil
}

func (r *contractRequest) RefreshDevice() error {
	httpsession.RefreshDevice(r.w, r.r)
	return nil
}

func (r *contractRequest) Body() []byte {
	body, err := io.ReadAll(r.r.Body)
	if err != nil {
		return nil
	}
	return body
}

func (r *contractRequest) SetCookie(name, value string) {
	http.SetCookie(r.w, &http.Cookie{Name: name, Value: value})
}

func (r *contractRequest) Write(text string) {
	r.begin()
	_, _ = io.WriteString(r.w, text) // a client that has gone sees nothing
}

func (r *contractRequest) Flush() {
	r.begin()
	_ = http.NewResponseController(r.w).Flush()
}
