package httpcontract

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// LogBuffer holds what was logged, one JSON value a line. Safe for concurrent use.
type LogBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

// Write appends to the buffer.
func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// Text returns everything that was logged so far.
func (b *LogBuffer) Text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Lines returns the lines that were logged so far.
func (b *LogBuffer) Lines() []string {
	return strings.FieldsFunc(b.Text(), func(r rune) bool { return r == '\n' })
}

// Events returns the logged lines, without those of the access log.
func (b *LogBuffer) Events() []string {
	return slices.DeleteFunc(b.Lines(), func(line string) bool { return strings.Contains(line, `"level":"DEBUG","msg":"request"`) })
}

// Logger returns a logger that writes every level to the harness' buffer.
func (h *Harness) Logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(h.Logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Events returns the audit events of that name that were logged so far.
func (h *Harness) Events(name string) []map[string]any {
	h.Helper()
	var found []map[string]any
	for _, line := range h.Logs.Lines() {
		var e map[string]any
		require.NoError(h, json.Unmarshal([]byte(line), &e), line)
		if e["event"] == name {
			found = append(found, e)
		}
	}
	return found
}

// maxLogLine bounds a log line: six bytes for each of a few hundred characters, and the stack where there was a panic.
const maxLogLine = 16 << 10

// TokenChar reports whether a token may have c.
func TokenChar(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '-' || c == '_'
}

// tokenShaped iterates over everything in a text that has a token's length and characters. It looks at every byte that an
// application sends; a regular expression would take longer than the requests.
func tokenShaped(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		run := 0
		for i := range len(text) {
			if !TokenChar(text[i]) {
				run = 0
				continue
			}
			if run++; run >= coatcheck.TokenLen && !yield(text[i+1-coatcheck.TokenLen:i+1]) {
				return
			}
		}
	}
}

// checkLogs checks, for every rule, that each line is JSON of bounded length and that no line contains a secret.
func (h *Harness) checkLogs() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, line := range h.Logs.Lines() {
		assert.True(h, json.Valid([]byte(line)), "not one JSON value: %.200q", line)
		assert.LessOrEqual(h, len(line), maxLogLine, "%.200q", line)
		for text := range tokenShaped(line) {
			assert.False(h, h.issued[text], "a token is in the log: %.300q", line)
		}
		for _, canary := range h.Canaries {
			assert.NotContains(h, line, canary)
		}
	}
}

// keepLog keeps the log for scripts/canary, which looks for secrets in the logs of all packages' tests.
func keepLog(t *testing.T, text string) {
	t.Helper()
	dir := os.Getenv("COATCHECK_TEST_LOGS")
	if dir == "" {
		return
	}
	f, err := os.CreateTemp(dir, "server-*.log")
	require.NoError(t, err)
	_, err = f.WriteString(t.Name() + "\n" + text)
	require.NoError(t, errors.Join(err, f.Close()))
}
