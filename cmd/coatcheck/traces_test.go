package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/coatcheck/coatcheck/internal/testserver"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// receiver is a collector: it decodes what OTLP over HTTP brings.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	raw      bytes.Buffer             // guarded by mu: all bodies
	header   http.Header              // guarded by mu: of the last request
	resource map[string]string        // guarded by mu: of the last request
	spans    map[string]*tracepb.Span // guarded by mu: by ID
	problems []error                  // guarded by mu
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{spans: make(map[string]*tracepb.Span)}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, err := io.ReadAll(req.Body)
	var batch collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &batch)
	}
	if err != nil || req.URL.Path != "/v1/traces" {
		r.problems = append(r.problems, fmt.Errorf("%s: %w", req.URL.Path, err))
	}
	r.raw.Write(body)
	r.header = req.Header
	for _, of := range batch.ResourceSpans {
		r.resource = words(of.Resource.Attributes)
		for _, scope := range of.ScopeSpans {
			for _, s := range scope.Spans {
				r.spans[string(s.SpanId)] = s
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// words are attributes as text.
func words(attrs []*common.KeyValue) map[string]string {
	found := make(map[string]string)
	for _, a := range attrs {
		switch v := a.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			found[a.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			found[a.Key] = fmt.Sprint(v.IntValue)
		default:
			found[a.Key] = "of another type"
		}
	}
	return found
}

// tree is the requests' spans by name, with the sorted names of those below.
func (r *receiver) tree() map[string][]string {
	found := make(map[string][]string)
	for _, s := range r.spans {
		if s.Kind == tracepb.Span_SPAN_KIND_SERVER {
			found[s.Name] = append(found[s.Name], "")[:len(found[s.Name])]
		}
	}
	for _, s := range r.spans {
		if parent := r.spans[string(s.ParentSpanId)]; parent != nil {
			found[parent.Name] = append(found[parent.Name], s.Name)
			slices.Sort(found[parent.Name])
		}
	}
	return found
}

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// traced runs a server until its end, with requests that have spans, and returns the tokens that it set.
func traced(t *testing.T, args []string) (to *receiver, p *process, tokens []string) {
	t.Helper()
	to = newReceiver(t)
	p = startIn(t, []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + to.URL, "OTEL_EXPORTER_OTLP_HEADERS=x-key=s3cret", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test",
		"OTEL_BSP_SCHEDULE_DELAY=3600000", // so that it is the end that sends
	}, append(args, "--otel", "--trusted-proxies=127.0.0.1/32")...)
	const canary = "s3cret-canary"
	body := `{"user_id":"user-sparrow","password":"` + canary + `"}`
	more := []string{"Authorization", "Bearer " + canary, "User-Agent", canary, "X-Forwarded-For", "192.0.2.77", "Tracestate", "vendor=" + canary}
	_, _, first := p.ask(t, "POST", "/auth/login?"+canary, "other="+canary, body, more...)
	status, _, second := p.ask(t, "POST", "/auth/refresh", first, "", append(more, "Traceparent", traceparent)...)
	require.Equal(t, http.StatusOK, status)
	status, _, _ = p.ask(t, "DELETE", "/auth/sessions/handlesparrowAAAAAAAAA", second, "", more...)
	require.Equal(t, http.StatusNotFound, status)
	p.ask(t, "GET", "/"+canary, second, "", more...)
	require.Equal(t, http.StatusOK, p.ready(t))
	p.signal(t, syscall.SIGTERM)
	require.Zero(t, p.wait(t))
	return to, p, []string{strings.TrimPrefix(first, "coatcheck="), strings.TrimPrefix(second, "coatcheck=")}
}

// What a request and its store operations leave with a collector: names and words of the source, and no more (LOG-01). They are
// sent by the end at the latest.
func TestTraces(t *testing.T) {
	for name, args := range map[string][]string{
		"memory": nil,
		"redis":  {"--store", redistest.Start(t).URL()},
	} {
		t.Run(name, func(t *testing.T) {
			to, p, tokens := traced(t, args)
			for tries := 1; tries < 5 && strings.Contains(p.stderr.String(), "the last spans may not have been sent"); tries++ {
				to, p, tokens = traced(t, args) // the end gives the collector two seconds, which is little on a busy machine
			}
			to.mu.Lock()
			defer to.mu.Unlock()
			require.Empty(t, to.problems)
			require.Equal(t, map[string][]string{
				"POST /auth/login":           {"coatcheck.store create"},
				"POST /auth/refresh":         {"coatcheck.store load", "coatcheck.store swap"},
				"DELETE /auth/sessions/{id}": {"coatcheck.store list", "coatcheck.store load", "coatcheck.store swap"},
				"GET":                        {},
			}, to.tree(), "and no span for readiness")
			for _, s := range to.spans {
				to.check(t, s)
			}
			assert.Equal(t, "s3cret", to.header.Get("X-Key"), "OTEL_EXPORTER_OTLP_HEADERS")
			assert.Equal(t, "coatcheck", to.resource["service.name"])
			assert.Equal(t, "v1.2.3-test", to.resource["service.version"])
			assert.Equal(t, "test", to.resource["deployment.environment.name"])
			for _, secret := range append(tokens, "canary", "s3cret", "sparrow", "192.0.2") {
				require.NotEmpty(t, secret)
				assert.NotContains(t, to.raw.String(), secret)
				assert.NotContains(t, p.stderr.String(), "s3cret")
			}
		})
	}
}

// check looks at one span, whose attributes are all that there are.
func (r *receiver) check(t *testing.T, s *tracepb.Span) {
	t.Helper()
	attrs := words(s.Attributes)
	assert.Empty(t, s.Events, s.Name)
	assert.Empty(t, s.TraceState, s.Name)
	assert.Equal(t, s.Name == "POST /auth/refresh" || r.spans[string(s.ParentSpanId)].GetName() == "POST /auth/refresh",
		hex.EncodeToString(s.TraceId) == strings.Split(traceparent, "-")[1], "%s: the proxy's trace", s.Name)
	if operation, ok := strings.CutPrefix(s.Name, "coatcheck.store "); ok {
		assert.Equal(t, map[string]string{"coatcheck.store.operation": operation}, attrs)
		return
	}
	method, route, _ := strings.Cut(s.Name, " ")
	want := map[string]string{"http.request.method": method, "http.response.status_code": "200"}
	if route != "" {
		want["http.route"] = route
	}
	if s.Name == "GET" || method == http.MethodDelete {
		want["http.response.status_code"] = "404"
	}
	assert.Equal(t, want, attrs)
}

// Without --otel nothing is sent, whatever the environment says; nor where that turns it off.
func TestNoTraces(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ args, env []string }{
		"by default":       {},
		"SDK disabled":     {[]string{"--otel"}, []string{"OTEL_SDK_DISABLED=true"}},
		"exporter is none": {[]string{"--otel"}, []string{"OTEL_TRACES_EXPORTER=none"}},
		"sampler":          {[]string{"--otel"}, []string{"OTEL_TRACES_SAMPLER=always_off"}},
	} {
		t.Run(name, func(t *testing.T) {
			to := newReceiver(t)
			p := startIn(t, append(tt.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+to.URL), tt.args...)
			p.ask(t, "GET", "/auth/me", "", "")
			p.signal(t, syscall.SIGTERM)
			require.Zero(t, p.wait(t))
			to.mu.Lock()
			defer to.mu.Unlock()
			assert.Nil(t, to.header, "the collector was asked")
		})
	}
}

// A collector that is away, says nothing, or refuses holds up no request and no stop, and is in the log once. A redirect is a refusal: it
// would take the headers, with a key in them, to another host, and a 302 leave the spans behind without a word. After a 101 the body is the
// connection, of which nothing of net/http's ends a read.
func TestCollectorThatIsAway(t *testing.T) {
	t.Parallel()
	hangs := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hangs }))
	t.Cleanup(func() { close(hangs); silent.Close() })
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, r.Header.Get("X-Key"), http.StatusUnauthorized)
	}))
	t.Cleanup(refusing.Close)
	other := newReceiver(t)
	redirecting := func(status int) string {
		s := httptest.NewServer(http.RedirectHandler(other.URL+"/v1/traces", status))
		t.Cleanup(s.Close)
		return s.URL
	}
	switching := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = testserver.SwitchProtocols(w) // the client closes it
	}))
	t.Cleanup(switching.Close)
	const generous = "60000" // milliseconds: on a busy machine an answer takes its time, and that is another line in the log
	for name, tt := range map[string]struct{ at, timeout, logged string }{
		"away":     {"http://user:s3cret@127.0.0.1:1", generous, "refuses connections"},
		"refusing": {refusing.URL, generous, "the collector answered 401"},
		"silent":   {silent.URL, "100", "the collector did not answer in time"},
		"101":      {switching.URL, "100", "the collector did not answer in time"},
		"302":      {redirecting(http.StatusFound), generous, "the collector redirects, which is not followed"},
		"307":      {redirecting(http.StatusTemporaryRedirect), generous, "the collector redirects, which is not followed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startIn(t, []string{
				"OTEL_EXPORTER_OTLP_ENDPOINT=" + tt.at, "OTEL_EXPORTER_OTLP_HEADERS=x-key=s3cret", "OTEL_BSP_SCHEDULE_DELAY=1",
				"OTEL_BSP_MAX_QUEUE_SIZE=2", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=1", "OTEL_BSP_EXPORT_TIMEOUT=" + tt.timeout,
			}, append(unhurried, "--otel")...)
			began := time.Now()
			for i := 0; i < 50 || !strings.Contains(p.stderr.String(), "spans were not sent"); i++ {
				require.Less(t, time.Since(began), patience)
				status, _, _ := p.ask(t, "GET", "/auth/me", "", "")
				require.Equal(t, http.StatusOK, status)
			}
			p.signal(t, syscall.SIGTERM)
			require.Zero(t, p.wait(t))
			minutes := int(time.Since(began)/time.Minute) + 1
			assert.LessOrEqual(t, strings.Count(p.stderr.String(), "spans were not sent"), minutes, "a line a minute")
			assert.Contains(t, p.stderr.String(), tt.logged)
			assert.NotContains(t, p.stderr.String(), "s3cret")
			other.mu.Lock()
			defer other.mu.Unlock()
			assert.Nil(t, other.header, "another host was asked")
		})
	}
}

// What has not been sent at the end is given two seconds, even if the collector takes all the time there is.
func TestTracesDoNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	hangs := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hangs }))
	t.Cleanup(func() { close(hangs); silent.Close() })
	p := startIn(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + silent.URL, "OTEL_EXPORTER_OTLP_TIMEOUT=600000", "OTEL_BSP_EXPORT_TIMEOUT=600000"},
		append(unhurried, "--otel")...)
	p.ask(t, "GET", "/auth/me", "", "")
	p.signal(t, syscall.SIGTERM)
	require.Zero(t, p.wait(t))
	assert.Contains(t, p.stderr.String(), "the last spans may not have been sent")
}

// Variables that are not understood are told at the start, without their values.
func TestMistakesInTraceVariables(t *testing.T) {
	t.Parallel()
	for variable, want := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=s3cret:4318":                 "OTEL_EXPORTER_OTLP_ENDPOINT: must be a URL",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://u:s3cret@[":    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: must be a URL",
		"OTEL_EXPORTER_OTLP_HEADERS=authorization: Bearer s3cret": "parse headers",
		"OTEL_EXPORTER_OTLP_HEADERS=x-key=s3cret%zz":              "escape header value",
		"OTEL_EXPORTER_OTLP_TIMEOUT=s3cret":                       "parse duration",
		"OTEL_EXPORTER_OTLP_PROTOCOL=grpc":                        "grpc is not a valid protocol",
		"OTEL_EXPORTER_OTLP_CERTIFICATE=/none/ca.pem":             `read tls ca cert file "/none/ca.pem"`,
		"OTEL_TRACES_EXPORTER=zipkin":                             "OTEL_TRACES_EXPORTER: must be otlp or none",
		"OTEL_TRACES_SAMPLER=s3cret":                              "OTEL_TRACES_SAMPLER or OTEL_TRACES_SAMPLER_ARG (values are not shown)",
		"OTEL_RESOURCE_ATTRIBUTES=s3cret":                         "OTEL_RESOURCE_ATTRIBUTES: must be key=value",
	} {
		name, _, _ := strings.Cut(variable, "=") // the value is a secret, to the canary run as well
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			cmd := exec.CommandContext(t.Context(), program(t), "serve", "--dev", "--listen=127.0.0.1:0", "--admin-listen=off", "--otel")
			cmd.Env, cmd.Stderr = environment(variable), &stderr
			assert.ErrorAs(t, cmd.Run(), new(*exec.ExitError))
			assert.Equal(t, exitFailed, cmd.ProcessState.ExitCode())
			assert.Contains(t, stderr.String(), "coatcheck: --otel: ")
			assert.Contains(t, stderr.String(), want)
			assert.NotContains(t, stderr.String(), "s3cret")
		})
	}
}

// An application that mounts the middleware does not compile OpenTelemetry in.
func TestOnlyTheProgramTraces(t *testing.T) {
	const module = "go.opentelemetry.io/"
	list := func(pkg string) string {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	require.Contains(t, list("."), module)
	for _, pkg := range []string{"../..", "../../server", "../../server/login", "../../shardstore", "../../redisstore"} {
		assert.NotContains(t, list(pkg), module, pkg)
	}
}
