package daemon

import (
	"io"
	"log/slog"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
)

// logHandler writes log lines as the configuration says, in UTC, so that the lines of several machines can be compared.
func logHandler(c *config.Config, w io.Writer) slog.Handler {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level = slog.LevelInfo // cannot happen: the setting is one of the words that slog knows
	}
	opt := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			a.Value = slog.TimeValue(a.Value.Time().UTC())
		}
		return a
	}}
	if c.LogFormat == "text" {
		return slog.NewTextHandler(w, opt)
	}
	return slog.NewJSONHandler(w, opt)
}
