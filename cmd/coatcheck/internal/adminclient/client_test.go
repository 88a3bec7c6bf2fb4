package adminclient_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/adminclient"
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
