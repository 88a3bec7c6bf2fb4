package tracing

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
)

const operationKey = attribute.Key("coatcheck.store.operation")

// Store returns the store with a span for each operation that a recorded request asks for. Other operations, such as those of
// the admin API and of readiness, have none: each would be a trace of its own, every few seconds.
func (t *Tracer) Store(store coatcheck.Store) coatcheck.Store {
	return server.ObserveStore(store, operationSpans{t.tracer})
}

// operationSpans makes a span of each operation whose context has one that is recorded.
type operationSpans struct{ tracer trace.Tracer }

// operationSpan is where the context of an operation keeps its own span, apart from the request's.
type operationSpan struct{}

// Begin implements server.StoreObserver.
func (s operationSpans) Begin(ctx context.Context, op server.Operation) context.Context {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx
	}
	ctx, span := s.tracer.Start(ctx, "coatcheck.store "+op.String(), trace.WithAttributes(operationKey.String(op.String())))
	return context.WithValue(ctx, operationSpan{}, span)
}

// Done implements server.StoreObserver. The span keeps only the kind of an error: its text may name a key, a user or an
// address.
func (operationSpans) Done(ctx context.Context, _ server.Operation, _ time.Time, err error) {
	span, ok := ctx.Value(operationSpan{}).(trace.Span)
	if !ok {
		return
	}
	if server.StoreFailed(err) {
		kind := semconv.ErrorTypeOther
		if errors.Is(err, coatcheck.ErrUnavailable) {
			kind = semconv.ErrorTypeKey.String("unavailable")
		}
		span.SetAttributes(kind)
		span.SetStatus(codes.Error, "")
	}
	span.End()
}
