package adminclient_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/adminclient"
	"github.com/coatcheck/coatcheck/internal/testserver"
	"github.com/coatcheck/coatcheck/redisstore"
)

// transport answers requests itself.
type transport func(*http.Request, *httptest.ResponseRecorder)

func (f transport) RoundTrip(req *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	f(req, w)
	return w.Result(), nil
}

// Whoever ends all sessions of a user waits for as long as the server may take, and for anything else ten seconds.
func TestPatience(t *testing.T) {
	c, err := adminclient.New("http://127.0.0.1:1", "")
	require.NoError(t, err)
	var until time.Time
	c.Through(transport(func(req *http.Request, w *httptest.ResponseRecorder) {
		var bounded bool
		until, bounded = req.Context().Deadline()
		assert.True(t, bounded)
		_, _ = w.WriteString(`{"revoked":1,"sessions":[]}`) // it returns no error
	}))
	ctx := context.Background()

	began := time.Now()
	_, err = c.EndUser(ctx, "ada")
	require.NoError(t, err)
	assert.GreaterOrEqual(t, until.Sub(began), redisstore.EndUserWithin+adminclient.Timeout)

	_, _, err = c.Sessions(ctx, "ada")
	require.NoError(t, err)
	assert.LessOrEqual(t, time.Until(until), adminclient.Timeout)
}

// After an answer 101 nothing of net/http's ends a read: the body is the connection, which is another protocol's.
func TestAnswer101(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": path} {
		t.Run(network, func(t *testing.T) {
			l, err := new(net.ListenConfig).Listen(t.Context(), network, address)
			require.NoError(t, err)
			closed := make(chan error, 1)
			s := &httptest.Server{Listener: l, Config: &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				closed <- testserver.SwitchProtocols(w)
			})}}
			s.Start()
			t.Cleanup(s.Close)
			at := s.URL
			if network == "unix" {
				at = "unix:" + path
			}
			c, err := adminclient.New(at, "")
			require.NoError(t, err)
			result := make(chan error, 1)
			go func() { result <- c.Check(context.Background(), "/healthz") }()
			select {
			case err := <-result:
				require.ErrorContains(t, err, "answers 101")
			case <-time.After(time.Minute):
				require.Fail(t, "the client hangs")
			}
			require.NoError(t, <-closed, "the connection is closed")
		})
	}
}

func TestURL(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:3001": "http://127.0.0.1:3001", ":3001": "http://127.0.0.1:3001", "0.0.0.0:1": "http://127.0.0.1:1",
		"[::]:1": "http://[::1]:1", "[::1]:1": "http://[::1]:1", "10.0.0.1:1": "http://10.0.0.1:1", "localhost:1": "http://localhost:1",
		"off": "", "127.0.0.1:0": "",
	} {
		assert.Equal(t, want, adminclient.URL(listen))
	}
}

func TestPrintable(t *testing.T) {
	assert.Equal(t, "a\uFFFD[31mb Zoë", adminclient.Printable("a\x1b[31mb Zoë"))
	assert.Equal(t, 100, len([]rune(adminclient.Printable(strings.Repeat("ä", 300)))))
}
