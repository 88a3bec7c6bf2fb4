// Package tracing makes OpenTelemetry spans of the server's requests and of their store operations. It is a package of its
// own so that only programs that import it compile OpenTelemetry: package server knows it by Config.Trace alone.
//
// A request's span is named after its method and route, "GET /auth/sessions/{id}", and has the attributes of OpenTelemetry's
// conventions for HTTP servers whose values are constants of the source: http.request.method, http.route,
// http.response.status_code, and error.type from 500 up. It does not have url.path, url.query or client.address, which hold
// handles, text of the client and people's addresses. An operation of the store is a span below it, "coatcheck.store load",
// with coatcheck.store.operation, and error.type if the store failed; the text of an error is in the log.
package tracing

import (
	"context"
	"net/http"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/coatcheck/coatcheck/server"
)

const scope = "github.com/coatcheck/coatcheck/server/tracing"

// Tracer makes spans. Its methods may be called by several goroutines.
type Tracer struct {
	tracer trace.Tracer
}

// New returns a tracer whose spans go to the provider. The provider decides what is sampled; the caller shuts it down.
func New(provider trace.TracerProvider) *Tracer {
	return &Tracer{tracer: provider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))}
}

// Request begins the span of a request and is what server.Config.Trace asks for: the span is in the context that it returns, and done
// ends it.
func (t *Tracer) Request(r server.TracedRequest) (_ context.Context, done func(status int)) {
	ctx := context.Background()
	if r.Traceparent != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": r.Traceparent})
	}
	ctx, span := t.tracer.Start(ctx, spanName(r), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(ofRequest(r)...))
	return ctx, func(status int) {
		span.SetAttributes(semconv.HTTPResponseStatusCode(status))
		if status >= http.StatusInternalServerError { // a lower status is no error of the server
			span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(status)))
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

func spanName(r server.TracedRequest) string {
	name := r.Method
	if name == semconv.HTTPRequestMethodOther.Value.AsString() {
		name = "HTTP"
	}
	if r.Route != "" {
		name += " " + r.Route
	}
	return name
}

func ofRequest(r server.TracedRequest) []attribute.KeyValue {
	attrs := []attribute.KeyValue{semconv.HTTPRequestMethodKey.String(r.Method)}
	if r.Route != "" {
		attrs = append(attrs, semconv.HTTPRoute(r.Route))
	}
	return attrs
}
