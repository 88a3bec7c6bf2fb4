package traces

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/coatcheck/coatcheck/internal/cause"
)

// reportEvery is the minimum time between two log lines about failures: an unreachable collector must not fill the log.
const reportEvery = time.Minute

// reports receives the complaints of OpenTelemetry's packages: as their error handler, about spans that were not sent; and as
// the sink of their own log, which would otherwise go to standard error, about variables that were not understood. Their
// texts quote variables and answers of collectors, both of which may hold keys, so that only words known to be harmless are
// logged.
type reports struct {
	log *slog.Logger
	now func() time.Time

	mu       sync.Mutex
	starting bool      // guarded by mu: complaints are mistakes of the configuration
	mistakes []error   // guarded by mu
	logged   time.Time // guarded by mu: when the last line was written
	failures int       // guarded by mu: since that line
}

var _ logr.LogSink = (*reports)(nil)

// started ends the time in which complaints are mistakes of the configuration, and returns those mistakes.
func (r *reports) started() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starting = false
	return errors.Join(r.mistakes...)
}

// Handle implements otel.ErrorHandler. During the start only the sampler complains here of a variable, and its texts quote the value.
func (r *reports) Handle(err error) {
	r.report("OTEL_TRACES_SAMPLER or OTEL_TRACES_SAMPLER_ARG", causeOf(err))
}

// Error implements logr.LogSink. The error and the values may hold the text of a variable with a key in it.
func (r *reports) Error(_ error, msg string, values ...any) {
	if i := slices.Index(values, any("file")); i >= 0 && i+1 < len(values) {
		msg = fmt.Sprintf("%s %q", msg, values[i+1])
	}
	r.report(msg, msg)
}

// Info implements logr.LogSink.
func (r *reports) Info(_ int, msg string, _ ...any) { r.report(msg, msg) }

// Enabled implements logr.LogSink: OpenTelemetry warns at level 1.
func (r *reports) Enabled(level int) bool { return level <= 1 }

// Init implements logr.LogSink.
func (r *reports) Init(logr.RuntimeInfo) {}

// WithValues implements logr.LogSink; values are not logged anyway.
func (r *reports) WithValues(...any) logr.LogSink { return r }

// WithName implements logr.LogSink.
func (r *reports) WithName(string) logr.LogSink { return r }

func (r *reports) report(mistake, failure string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.starting {
		r.mistakes = append(r.mistakes, fmt.Errorf("--otel: an OTEL_ variable is not understood: %.200s (values are not shown)", mistake))
		return
	}
	r.failures++
	now := r.now()
	// A clock that was set back must not silence reports until it has caught up.
	if since := now.Sub(r.logged); 0 <= since && since < reportEvery {
		return
	}
	r.log.LogAttrs(context.Background(), slog.LevelWarn, "spans were not sent", slog.String("error", failure), slog.Int("count", r.failures))
	r.logged, r.failures = now, 0
}

// sentStatus finds the status in otlptracehttp's "failed to send to URL: 401 Unauthorized (body: …)"; no URL has a space.
var sentStatus = regexp.MustCompile(`failed to send to \S+: ([1-5]\d\d) `)

// causeOf says why spans were not sent, in words of its own, never in the collector's.
func causeOf(err error) string {
	var network net.Error
	var certificate *tls.CertificateVerificationError
	text := err.Error()
	status := sentStatus.FindStringSubmatch(text)
	switch {
	case status != nil:
		return "the collector answered " + status[1]
	case strings.Contains(text, "retry-able request failure: body:"):
		return "the collector has asked to come back later, too often"
	case strings.Contains(text, "processor export timeout"):
		return "the collector did not answer in time"
	case errors.Is(err, errRedirected):
		return "the collector redirects, which is not followed"
	case strings.Contains(text, "partial success"):
		return "the collector has refused spans; its log may tell why"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network), errors.As(err, &certificate):
		return "the collector " + cause.Of(err)
	default:
		return "a cause that is not shown, because its text may hold what is secret"
	}
}
