package daemon

import (
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/asynclog"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// logHandler writes log lines as the configuration says, in UTC, so that the lines of several machines can be compared.
func logHandler(c *config.Config, w io.Writer) slog.Handler {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level = slog.LevelInfo // cannot happen: the setting is one of the words that slog knows
	}
	opt := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "text" {
		return inUTC{slog.NewTextHandler(w, opt)}
	}
	return inUTC{slog.NewJSONHandler(w, opt)}
}

// inUTC gives its handler records whose time is in UTC. A ReplaceAttr would do the same, but with one slog hands each line's level
// to encoding/json, which doubles what a line costs.
type inUTC struct{ slog.Handler }

func (h inUTC) Handle(ctx context.Context, record slog.Record) error {
	record.Time = record.Time.UTC()
	return h.Handler.Handle(ctx, record)
}

func (h inUTC) WithAttrs(attrs []slog.Attr) slog.Handler { return inUTC{h.Handler.WithAttrs(attrs)} }

func (h inUTC) WithGroup(name string) slog.Handler { return inUTC{h.Handler.WithGroup(name)} }

// newLog returns a log that goes to out, in which no other lines push out what begins and ends sessions.
func newLog(out *asynclog.Writer, handler func(io.Writer) slog.Handler) *slog.Logger {
	return slog.New(twoHandlers{kept: handler(out.Kept()), others: handler(out)})
}

// twoHandlers gives the records that other lines must not push out of the log to one handler, and all others to another.
type twoHandlers struct{ kept, others slog.Handler }

func (h twoHandlers) Enabled(ctx context.Context, level slog.Level) bool {
	return h.others.Enabled(ctx, level)
}

func (h twoHandlers) Handle(ctx context.Context, record slog.Record) error {
	if middleware.Kept(ctx) {
		return h.kept.Handle(ctx, record)
	}
	return h.others.Handle(ctx, record)
}

func (h twoHandlers) WithAttrs(attrs []slog.Attr) slog.Handler {
	return twoHandlers{h.kept.WithAttrs(attrs), h.others.WithAttrs(attrs)}
}

func (h twoHandlers) WithGroup(name string) slog.Handler {
	return twoHandlers{h.kept.WithGroup(name), h.others.WithGroup(name)}
}

// takePackageLog makes lines that packages write with package log lines of the given log, without their text, which may
// quote what another server sent: net/http quotes bytes that follow an answer. Where in the source a line comes from says
// what has happened.
func takePackageLog(to *slog.Logger) {
	log.SetFlags(log.Lshortfile)
	log.SetPrefix("")
	log.SetOutput(&packageLog{log: to, now: time.Now})
}

// packageLog is an output for package log. Write is called for one line at a time.
type packageLog struct {
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	logged  time.Time // guarded by mu: when the last line was logged
	omitted int       // guarded by mu: lines since then
}

// packageLogEvery is the minimum time between two lines of packages in the log: a hostile back end can cause any number.
const packageLogEvery = time.Second

// Write takes a line as log.Lshortfile has it, such as "transport.go:2404: Unsolicited response".
func (p *packageLog) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if since := now.Sub(p.logged); 0 <= since && since < packageLogEvery {
		p.omitted++
		return len(line), nil
	}
	at, _, _ := bytes.Cut(line, []byte(": "))
	p.log.Warn("a package has logged a line, which is not shown because it may quote another server", "at", string(at), "omitted", p.omitted)
	p.logged, p.omitted = now, 0
	return len(line), nil
}
