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

// Store returns the store with a span for each operation that a recorded request asks for. Others, such as those of the admin API
// and of readiness, have none: they would be traces of their own, every few seconds.
func (t *Tracer) Store(store coatcheck.Store) coatcheck.Store {
	return &tracedStore{Store: store, tracer: t.tracer}
}

type tracedStore struct {
	coatcheck.Store
	tracer trace.Tracer
}

// start begins the span of an operation; it is one that records nothing if the request's does not.
func (s *tracedStore) start(ctx context.Context, operation string) (context.Context, trace.Span) {
	if parent := trace.SpanFromContext(ctx); !parent.IsRecording() {
		return ctx, parent
	}
	return s.tracer.Start(ctx, "coatcheck.store "+operation, trace.WithAttributes(operationKey.String(operation)))
}

// end ends an operation's span. Of an error it keeps what kind it is: its text may name a key, a user or an address.
func end(span trace.Span, err error) {
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

// Load implements coatcheck.Store.
func (s *tracedStore) Load(ctx context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	ctx, span := s.start(ctx, "load")
	err := s.Store.Load(ctx, key, id, now, rec)
	end(span, err)
	return err
}

// Mark implements coatcheck.Store.
func (s *tracedStore) Mark(ctx context.Context, user string, now time.Time) (coatcheck.Mark, error) {
	ctx, span := s.start(ctx, "mark")
	mark, err := s.Store.Mark(ctx, user, now)
	end(span, err)
	return mark, err
}

// Create implements coatcheck.Store.
func (s *tracedStore) Create(ctx context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (int, error) {
	ctx, span := s.start(ctx, "create")
	ended, err := s.Store.Create(ctx, rec, opt, now)
	end(span, err)
	return ended, err
}

// Swap implements coatcheck.Store.
func (s *tracedStore) Swap(ctx context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	ctx, span := s.start(ctx, "swap")
	err := s.Store.Swap(ctx, rec, old, now, cur)
	end(span, err)
	return err
}

// End implements coatcheck.Store.
func (s *tracedStore) End(ctx context.Context, key coatcheck.Key, user string, now, until time.Time, last *coatcheck.Record) error {
	ctx, span := s.start(ctx, "end")
	err := s.Store.End(ctx, key, user, now, until, last)
	end(span, err)
	return err
}

// List implements coatcheck.Store.
func (s *tracedStore) List(ctx context.Context, user string, now time.Time, yield func(*coatcheck.Record) bool) error {
	ctx, span := s.start(ctx, "list")
	err := s.Store.List(ctx, user, now, yield)
	end(span, err)
	return err
}

// EndUser implements coatcheck.Store.
func (s *tracedStore) EndUser(ctx context.Context, user string, keep coatcheck.Key, now, until time.Time) (int, error) {
	ctx, span := s.start(ctx, "end_user")
	ended, err := s.Store.EndUser(ctx, user, keep, now, until)
	end(span, err)
	return ended, err
}
