package traces

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/go-logr/logr"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server/tracing"
)

// flushWithin bounds how long a stop waits for a collector: an unreachable one must not make every restart take as long as
// requests may take.
const flushWithin = 2 * time.Second

// Traces makes spans and sends them. A nil *Traces makes none.
type Traces struct {
	*tracing.Tracer
	provider *sdktrace.TracerProvider
	reports  *reports
}

// Start begins to send spans as the OTEL_ variables of the process say, which OpenTelemetry's packages read by themselves.
// The result is nil if they turn traces off. The error is about variables, and shows no value that may be a secret.
func Start(version string, log *slog.Logger) (*Traces, error) {
	exporter := os.Getenv("OTEL_TRACES_EXPORTER")
	if exporter == "none" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return nil, nil //nolint:nilnil // a nil *Traces traces nothing
	}
	if exporter != "" && exporter != "otlp" {
		return nil, errors.New("--otel: OTEL_TRACES_EXPORTER: must be otlp or none")
	}
	if err := errors.Join(endpoint("OTEL_EXPORTER_OTLP_ENDPOINT"), endpoint("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")); err != nil {
		return nil, err
	}
	complaints := &reports{log: log, now: time.Now, starting: true}
	otel.SetErrorHandler(complaints)
	otel.SetLogger(logr.New(complaints))
	ctx := context.Background()
	about, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("coatcheck"), semconv.ServiceVersion(version)), resource.WithFromEnv())
	if err != nil {
		return nil, errors.New("--otel: OTEL_RESOURCE_ATTRIBUTES: must be key=value, with commas between")
	}
	sender, err := otlptracehttp.New(ctx, noRedirects)
	if err != nil {
		return nil, fmt.Errorf("--otel: %w", err)
	}
	t := &Traces{provider: sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(ending{sender})), reports: complaints}
	if err := complaints.started(); err != nil {
		return nil, errors.Join(err, t.provider.Shutdown(ctx))
	}
	t.Tracer = tracing.New(t.provider)
	return t, nil
}

var errRedirected = errors.New("redirected")

// noRedirects refuses the request that follows a redirect, which would have the headers with it. A client of our own, with a CheckRedirect,
// would be one that does not read the variables; a transport asks for the proxy of each request, before it connects.
var noRedirects = otlptracehttp.WithProxy(func(req *http.Request) (*url.URL, error) {
	if req.Response != nil { // the redirect
		return nil, errRedirected
	}
	return http.ProxyFromEnvironment(req)
})

// ending is an exporter each export of which ends with its context. After an answer 101 the exporter reads the connection itself, of which
// neither a context nor the client's timeout ends a read, and no later export would begin. So the connection is closed.
type ending struct{ sdktrace.SpanExporter }

func (e ending) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	var mu sync.Mutex
	var conn net.Conn // guarded by mu: of the last request, an export's only one at a time
	closeIfOver := func() {
		if conn != nil && ctx.Err() != nil {
			_ = conn.Close() // whoever reads learns it
		}
	}
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		mu.Lock()
		defer mu.Unlock()
		conn = got.Conn
		closeIfOver()
	}})
	defer context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		closeIfOver()
	})()
	err := e.SpanExporter.ExportSpans(traced, spans)
	if err != nil && ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}

// endpoint refuses an address that the exporter would read as one without a host name, such as "collector:4318".
func endpoint(variable string) error {
	text := strings.TrimSpace(os.Getenv(variable))
	if text == "" {
		return nil
	}
	if u, err := url.Parse(text); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return fmt.Errorf("--otel: %s: must be a URL such as http://127.0.0.1:4318 (value not shown)", variable)
	}
	return nil
}

// Around returns the store with a span for each of its operations.
func (t *Traces) Around(store coatcheck.Store) coatcheck.Store {
	if t == nil {
		return store
	}
	return t.Store(store)
}

// Stop sends the queued spans, until the deadline and for flushWithin at most. A zero deadline sets no limit.
func (t *Traces) Stop(deadline time.Time) {
	if t == nil {
		return
	}
	latest := time.Now().Add(flushWithin)
	if !deadline.IsZero() && deadline.Before(latest) {
		latest = deadline
	}
	ctx, cancel := context.WithDeadline(context.Background(), latest)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.reports.log.Warn("the last spans may not have been sent", "error", causeOf(err))
	}
}
