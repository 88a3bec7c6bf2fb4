package daemon

import (
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/asynclog"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// A line of package log is told by its place in the source, once a second.
func TestPackageLog(t *testing.T) {
	var out bytes.Buffer
	now := time.UnixMilli(1_900_000_000_000)
	l := log.New(&packageLog{log: slog.New(slog.NewTextHandler(&out, nil)), now: func() time.Time { return now }}, "", log.Lshortfile)
	for range 1000 {
		l.Printf("Unsolicited response received on idle HTTP channel starting with %q", "s3cret")
	}
	assert.Equal(t, 1, strings.Count(out.String(), "\n"))
	assert.Contains(t, out.String(), "at=log_test.go:")
	now = now.Add(-4 * 365 * 24 * time.Hour)
	l.Print("s3cret")
	assert.Contains(t, out.String(), "omitted=999")
	assert.NotContains(t, out.String(), "s3cret")
}

// Lines are in UTC wherever the machine is, in both formats, through loggers with attributes and groups too.
func TestLinesAreInUTC(t *testing.T) {
	at := time.Date(2026, 11, 27, 2, 30, 0, 0, time.FixedZone("", 5*60*60))
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		h := logHandler(&config.Config{LogFormat: format, LogLevel: "info"}, &out)
		for _, h := range []slog.Handler{h, h.WithAttrs([]slog.Attr{slog.Int("a", 1)}), h.WithGroup("g")} {
			require.NoError(t, h.Handle(context.Background(), slog.NewRecord(at, slog.LevelInfo, "m", 0)))
		}
		assert.Equal(t, 3, strings.Count(out.String(), "2026-11-26T21:30:00"), out.String())
		assert.NotContains(t, out.String(), "+05:00")
	}
}

// What begins and ends sessions goes to the handler whose lines are kept, through loggers with attributes and groups too.
func TestKeptRecords(t *testing.T) {
	var kept, others bytes.Buffer
	handler := func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) }
	log := slog.New(twoHandlers{kept: handler(&kept), others: handler(&others)}).With("a", 1).WithGroup("g")
	events := middleware.NewEvents(log, time.Now)
	for _, event := range []string{middleware.EventLogin, middleware.EventLogout, middleware.EventRevoke, "reuse"} {
		events.Write(netip.Addr{}, slog.LevelInfo, event, "ok")
	}
	events.Write(netip.Addr{}, slog.LevelWarn, "login_failed", "refused")
	log.Warn("something else")
	assert.Equal(t, 4, strings.Count(kept.String(), "a=1"), kept.String())
	assert.Equal(t, 2, strings.Count(others.String(), "a=1"), others.String())
}

// While nobody reads the log, other lines push no login out of it (CASES A6).
func TestLoginsAreNotPushedOutOfTheLog(t *testing.T) {
	r, w := io.Pipe()
	handler := func(to io.Writer) slog.Handler { return slog.NewTextHandler(to, nil) }
	out := asynclog.New(w, handler)
	log := newLog(out, handler)
	events := middleware.NewEvents(log, time.Now)
	const logins = 1000
	for range logins {
		for range 5 {
			log.Warn(strings.Repeat("x", 1000))
		}
		events.Write(netip.Addr{}, slog.LevelInfo, middleware.EventLogin, "ok")
	}
	assert.Positive(t, out.Dropped())
	read := make(chan string)
	go func() {
		all, err := io.ReadAll(r)
		assert.NoError(t, err)
		read <- string(all)
	}()
	assert.True(t, out.Close(time.Now().Add(2*time.Minute)))
	require.NoError(t, w.Close())
	assert.Equal(t, logins, strings.Count(<-read, "event=login"))
}
