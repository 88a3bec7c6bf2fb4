package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/adminclient"
)

// The sessions of all users, from a server that has some, and from one that has none.
func TestAllSessions(t *testing.T) {
	t.Parallel()
	p := start(t)
	code, out, errs := command(t, nil, "sessions", "list", "--admin-url", p.admin)
	require.Zero(t, code, errs)
	assert.Equal(t, "nobody has a live session\n", out)
	code, out, _ = command(t, nil, "sessions", "list", "--json", "--admin-url", p.admin)
	require.Zero(t, code)
	assert.JSONEq(t, `{"sessions":[]}`, out)

	users := []string{"ada", "a/b", "..", "x\u202ey", "ada"}
	for _, user := range users {
		p.logIn(t, user)
	}
	code, out, errs = command(t, nil, "sessions", "list", "--admin-url", p.admin)
	require.Zero(t, code, errs)
	assert.Empty(t, errs, "no progress where nobody looks")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 6)
	assert.Regexp(t, `^USER +HANDLE +SESSION ID +CREATED +LAST SEEN +EXPIRES +BOUND +BEGAN AT +ADDRESS +BROWSER$`, lines[0])
	assert.Equal(t, 2, strings.Count(out, "\nada "))
	assert.Contains(t, out, "x\uFFFDy")
	assert.Contains(t, out, "  no     127.0.0.1  127.0.0.1  turned\uFFFDround")

	code, out, errs = command(t, nil, "sessions", "list", "--json", "--admin-url", p.admin)
	require.Zero(t, code, errs)
	var answer struct {
		Sessions []struct {
			UserID string `json:"user_id"`
			Handle string
		}
	}
	require.NoError(t, json.Unmarshal([]byte(out), &answer), out)
	var listed []string
	for _, s := range answer.Sessions {
		listed = append(listed, s.UserID)
		assert.Len(t, s.Handle, 22)
	}
	assert.ElementsMatch(t, users, listed)
}

// paged answers like a server with three pages, of which the second is empty; then with what end says.
func paged(t *testing.T, end func(http.ResponseWriter)) *adminclient.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		one := func(n int) string {
			return fmt.Sprintf(`{"user_id":"u%d","handle":"h","created_at":"2026-03-01T12:00:00.000Z","ip":null,"later":%d}`, n, n)
		}
		switch r.URL.Query().Get("cursor") {
		case "":
			_, _ = fmt.Fprintf(w, `{"sessions":[%s,%s],"next":"a b&c"}`, one(1), one(2))
		case "a b&c":
			_, _ = fmt.Fprint(w, `{"sessions":[],"next":"3"}`)
		default:
			end(w)
		}
	}))
	t.Cleanup(server.Close)
	client, err := adminclient.New(server.URL, "")
	require.NoError(t, err)
	return client
}

// A list is followed to its last page, over empty ones, and members of a later release are passed on.
func TestAllSessionsByPages(t *testing.T) {
	t.Parallel()
	client := paged(t, func(w http.ResponseWriter) { _, _ = fmt.Fprint(w, `{"sessions":[{"user_id":"u3"}]}`) })
	var out bytes.Buffer
	require.NoError(t, (&sessionsCall{json: true}).listAll(t.Context(), client, &out, nil))
	var answer struct{ Sessions []map[string]any }
	require.NoError(t, json.Unmarshal(out.Bytes(), &answer), out.String())
	require.Len(t, answer.Sessions, 3)
	assert.Equal(t, "u3", answer.Sessions[2]["user_id"])
	assert.InDelta(t, 2, answer.Sessions[1]["later"], 0)
	out.Reset()
	require.NoError(t, (&sessionsCall{}).listAll(t.Context(), client, &out, nil))
	assert.Equal(t, 1, strings.Count(out.String(), "USER"))
	assert.Equal(t, 4, strings.Count(out.String(), "\n"))
}

// Half a list is no list: the exit code and the JSON say so.
func TestAllSessionsBrokenOff(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		end  func(http.ResponseWriter)
		want string
	}{
		"an outage": {func(w http.ResponseWriter) {
			w.WriteHeader(503)
			_, _ = fmt.Fprint(w, `{"code":"store_unavailable","detail":"It is away."}`)
		}, "answers 503: It is away."},
		"a circle":    {func(w http.ResponseWriter) { _, _ = fmt.Fprint(w, `{"sessions":[],"next":"3"}`) }, "the same page again"},
		"no list":     {func(w http.ResponseWriter) { _, _ = fmt.Fprint(w, `{}`) }, "no coatcheck admin listener"},
		"no sessions": {func(w http.ResponseWriter) { _, _ = fmt.Fprint(w, `{"sessions":[1]}`) }, "no coatcheck admin listener"},
	} {
		client := paged(t, tt.end)
		var out bytes.Buffer
		assert.ErrorContains(t, (&sessionsCall{json: true}).listAll(t.Context(), client, &out, nil), tt.want, name)
		assert.False(t, json.Valid(out.Bytes()), name)
		assert.ErrorContains(t, (&sessionsCall{}).listAll(t.Context(), client, &out, nil), tt.want, name)
	}
	client := paged(t, nil)
	assert.ErrorIs(t, (&sessionsCall{}).listAll(t.Context(), client, fullDisk{}, nil), errFull)
}

var errFull = errors.New("no space left")

// fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

// A list that takes long says how far it has come, on one line that does not stay.
func TestAllSessionsProgress(t *testing.T) {
	t.Parallel()
	var out, terminal bytes.Buffer
	p := &progress{w: &terminal, began: time.Now().Add(-time.Minute)}
	client := paged(t, func(w http.ResponseWriter) { _, _ = fmt.Fprint(w, `{"sessions":[{"user_id":"u3"}]}`) })
	require.NoError(t, (&sessionsCall{}).listAll(t.Context(), client, &out, p))
	assert.Contains(t, terminal.String(), "2 sessions so far, after 1m")
	assert.Contains(t, terminal.String(), "3 sessions so far")
	assert.True(t, strings.HasSuffix(terminal.String(), "\r\x1b[K"))
	assert.NotContains(t, out.String(), "so far")

	terminal.Reset()
	require.NoError(t, (&sessionsCall{json: true}).listAll(t.Context(), client, &out, &progress{w: &terminal, began: time.Now().Add(time.Hour)}))
	assert.Empty(t, terminal.String(), "a short one says nothing")
	assert.Nil(t, progressOn(&terminal))
}
