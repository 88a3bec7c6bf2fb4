package daemon

import (
	"bytes"
	"log"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
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
