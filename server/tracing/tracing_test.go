package tracing_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/tracing"
	"github.com/coatcheck/coatcheck/shardstore"
	"github.com/coatcheck/coatcheck/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder returns a tracer and what it has recorded.
func recorder(t *testing.T, opts ...sdktrace.TracerProviderOption) (*tracing.Tracer, *tracetest.SpanRecorder) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(append(opts, sdktrace.WithSpanProcessor(spans))...)
	t.Cleanup(func() { assert.NoError(t, provider.Shutdown(context.Background())) })
	return tracing.New(provider), spans
}

func attributes(s sdktrace.ReadOnlySpan) map[attribute.Key]any {
	found := make(map[attribute.Key]any)
	for _, a := range s.Attributes() {
		found[a.Key] = a.Value.AsInterface()
	}
	return found
}

func TestRequest(t *testing.T) {
	tracer, spans := recorder(t)
	for i, tt := range []struct {
		server.TracedRequest
		answer int
		name   string
		status codes.Code
		attrs  map[attribute.Key]any
	}{
		{
			server.TracedRequest{Method: "DELETE", Route: "/auth/sessions/{id}"},
			404, "DELETE /auth/sessions/{id}", codes.Unset,
			map[attribute.Key]any{"http.request.method": "DELETE", "http.route": "/auth/sessions/{id}", "http.response.status_code": int64(404)},
		},
		{
			server.TracedRequest{Method: "_OTHER"},
			405, "HTTP", codes.Unset,
			map[attribute.Key]any{"http.request.method": "_OTHER", "http.response.status_code": int64(405)},
		},
		{
			server.TracedRequest{Method: "GET", Route: "/auth/me"},
			503, "GET /auth/me", codes.Error,
			map[attribute.Key]any{"http.request.method": "GET", "http.route": "/auth/me", "http.response.status_code": int64(503), "error.type": "503"},
		},
	} {
		ctx, done := tracer.Request(tt.TracedRequest)
		assert.True(t, trace.SpanFromContext(ctx).IsRecording())
		done(tt.answer)
		require.Len(t, spans.Ended(), i+1)
		s := spans.Ended()[i]
		assert.Equal(t, tt.name, s.Name())
		assert.Equal(t, trace.SpanKindServer, s.SpanKind())
		assert.Equal(t, sdktrace.Status{Code: tt.status}, s.Status())
		assert.Equal(t, tt.attrs, attributes(s))
	}
}

func TestTraceparent(t *testing.T) {
	tracer, spans := recorder(t)
	for header, joined := range map[string]bool{
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01": true,
		"":        false,
		"garbage": false,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01":      false,
		"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01-more": false,
	} {
		_, done := tracer.Request(server.TracedRequest{Method: "GET", Traceparent: header})
		done(200)
		s := spans.Ended()[len(spans.Ended())-1]
		assert.Equal(t, joined, s.Parent().IsValid(), header)
		assert.Equal(t, joined, s.SpanContext().TraceID().String() == "0af7651916cd43dd8448eb211c80319c", header)
	}
	_, done := tracer.Request(server.TracedRequest{Method: "GET", Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"})
	n := len(spans.Ended())
	done(200)
	assert.Len(t, spans.Ended(), n, "the proxy's tracer has decided that this one is not recorded")
}

// broken is a store that fails with what a Redis might say.
type broken struct {
	coatcheck.Store
	err error
}

func (b broken) Load(context.Context, coatcheck.Key, coatcheck.ID, time.Time, *coatcheck.Record) error {
	return b.err
}

func TestStoreSpans(t *testing.T) {
	tracer, spans := recorder(t)
	var rec coatcheck.Record
	load := func(ctx context.Context, err error) sdktrace.ReadOnlySpan {
		got := tracer.Store(broken{err: err}).Load(ctx, coatcheck.Key{}, coatcheck.ID{}, time.Now(), &rec)
		assert.Equal(t, err, got)
		if len(spans.Ended()) == 0 {
			return nil
		}
		return spans.Ended()[len(spans.Ended())-1]
	}
	assert.Nil(t, load(t.Context(), nil), "no request, no span")

	ctx, done := tracer.Request(server.TracedRequest{Method: "GET", Route: "/auth/me"})
	parent := trace.SpanContextFromContext(ctx)
	for _, tt := range []struct {
		err    error
		status codes.Code
		kind   any
	}{
		{nil, codes.Unset, nil},
		{coatcheck.ErrNotFound, codes.Unset, nil},
		{fmt.Errorf("%w: redis://user:s3cret@redis", coatcheck.ErrUnavailable), codes.Error, "unavailable"},
		{errors.New("s3cret"), codes.Error, "_OTHER"},
	} {
		s := load(ctx, tt.err)
		assert.Equal(t, "coatcheck.store load", s.Name())
		assert.Equal(t, parent.SpanID(), s.Parent().SpanID())
		assert.Equal(t, parent.TraceID(), s.SpanContext().TraceID())
		assert.Equal(t, sdktrace.Status{Code: tt.status}, s.Status())
		want := map[attribute.Key]any{"coatcheck.store.operation": "load"}
		if tt.kind != nil {
			want["error.type"] = tt.kind
		}
		assert.Equal(t, want, attributes(s))
		assert.Empty(t, s.Events(), "an event would have the error's text")
	}
	done(200)
}

func TestNothingIsRecordedThatIsNotSampled(t *testing.T) {
	tracer, spans := recorder(t, sdktrace.WithSampler(sdktrace.NeverSample()))
	ctx, done := tracer.Request(server.TracedRequest{Method: "GET"})
	require.NoError(t, tracer.Store(broken{}).Load(ctx, coatcheck.Key{}, coatcheck.ID{}, time.Now(), nil))
	done(200)
	assert.Empty(t, spans.Started())
}

// The wrapper is a store like the one within, whether its operations are recorded or not.
func TestConformance(t *testing.T) {
	for _, name := range []string{"recorded", "not"} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) coatcheck.Store {
				t.Helper()
				store, err := shardstore.New(shardstore.Options{Shards: 4, JanitorEvery: time.Hour})
				require.NoError(t, err)
				tracer, _ := recorder(t)
				if name == "not" {
					return tracer.Store(store)
				}
				return within{tracer.Store(store), tracer}
			})
		})
	}
}

// within asks each operation in a request of its own.
type within struct {
	coatcheck.Store
	tracer *tracing.Tracer
}

func (w within) begin() (ctx context.Context, done func(int)) {
	return w.tracer.Request(server.TracedRequest{Method: "GET"})
}

func (w within) Load(_ context.Context, key coatcheck.Key, id coatcheck.ID, now time.Time, rec *coatcheck.Record) error {
	ctx, done := w.begin()
	defer done(200)
	return w.Store.Load(ctx, key, id, now, rec)
}

func (w within) Mark(_ context.Context, user string, now time.Time) (coatcheck.Mark, error) {
	ctx, done := w.begin()
	defer done(200)
	return w.Store.Mark(ctx, user, now)
}

func (w within) Create(_ context.Context, rec *coatcheck.Record, opt coatcheck.CreateOptions, now time.Time) (int, error) {
	ctx, done := w.begin()
	defer done(200)
	return w.Store.Create(ctx, rec, opt, now)
}

func (w within) Swap(_ context.Context, rec *coatcheck.Record, old uint64, now time.Time, cur *coatcheck.Record) error {
	ctx, done := w.begin()
	defer done(200)
	return w.Store.Swap(ctx, rec, old, now, cur)
}

func (w within) End(_ context.Context, key coatcheck.Key, user string, now, until time.Time, last *coatcheck.Record) error {
	ctx, done := w.begin()
	defer done(200)
	return w.Store.End(ctx, key, user, now, until, last)
}

func (w within) List(_ context.Context, user string, now time.Time, yield func(*coatcheck.Record) bool) error {
	ctx, done := w.begin()
	defer done(200)
	return w.Store.List(ctx, user, now, yield)
}

func (w within) EndUser(_ context.Context, user string, keep coatcheck.Key, mark bool, now, until time.Time) (int, error) {
	ctx, done := w.begin()
	defer done(200)
	return w.Store.EndUser(ctx, user, keep, mark, now, until)
}
