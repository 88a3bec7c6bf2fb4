package servertest

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// document is the OpenAPI document that the server serves, and which of its answers a run has seen. Everything that the
// suite sends and receives is checked against it: a route, a status or a member that it does not know fails the rule that
// met it.
type document struct {
	load sync.Once
	doc  *openapi3.T

	mu    sync.Mutex
	seen  map[string]bool // guarded by mu: "operation status"
	known map[string]bool // guarded by mu: shapes of answers that were checked before; most are alike
}

func newDocument() *document {
	return &document{seen: make(map[string]bool), known: make(map[string]bool)}
}

func (d *document) get(h *harness) *openapi3.T {
	h.Helper()
	d.load.Do(func() {
		var resp response
		require.Eventually(h, func() bool { // the first rule to ask may be one whose server gives a request 150 ms to arrive
			var err error
			resp, err = h.Wire.Send(request{Method: "GET", Path: "/openapi.yaml"})
			return err == nil && resp.Status == 200
		}, patience, time.Millisecond)
		doc, err := openapi3.NewLoader().LoadFromData([]byte(resp.Body))
		require.NoError(h, err)
		require.NoError(h, doc.Validate(h.Context()))
		d.doc = doc
	})
	require.NotNil(h, d.doc, "the document could not be read")
	return d.doc
}

// checkContract checks a request to one of the listeners, and its answer, against the document.
func (h *harness) checkContract(listener *wire, req request, r response) {
	h.Helper()
	route, params := findRoute(h.api.get(h), listener == h.admin, req)
	if route == nil {
		preflight := req.Method == "OPTIONS" && r.Status == 204
		assert.True(h, r.Status >= 400 || preflight, "%s %s is not in openapi.yaml and was answered %d", req.Method, req.Path, r.Status)
		return
	}
	h.api.saw(route.Operation, r.Status)
	if req.Method == "HEAD" {
		assert.NotNil(h, route.Operation.Responses.Status(r.Status), "openapi.yaml does not know this answer: HEAD %s %d", req.Path, r.Status)
		return
	}
	h.checkDocumentedHeaders(route.Operation, r)
	if h.api.knows(shape(route.Operation, req, r)) {
		return
	}
	in := &openapi3filter.RequestValidationInput{
		PathParams: params, Route: route,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	var err error
	in.Request, err = http.ReadRequest(bufio.NewReader(strings.NewReader(req.Text(listener.Addr))))
	if err != nil { // the answer is what matters
		in.Request = &http.Request{Method: req.Method, Header: http.Header{}}
	}
	if !refusedAsItIs(r) {
		if assert.NoError(h, err, "the server accepted a malformed request") {
			err = openapi3filter.ValidateRequest(h.Context(), in)
			assert.NoError(h, err, "openapi.yaml does not know this request: %s %s, answered %d", req.Method, req.Path, r.Status)
		}
	}
	err = openapi3filter.ValidateResponse(h.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: r.Status, Header: r.Header, Body: io.NopCloser(strings.NewReader(r.Body)), Options: in.Options,
	})
	assert.NoError(h, err, "openapi.yaml does not know this answer: %s %s %d %s", req.Method, req.Path, r.Status, r.Body)
}

// documentedHeaders are what clients act on, and no rule that the document has for all answers: it names them at each.
var documentedHeaders = []string{
	"Location", "Retry-After", "Set-Cookie", "Www-Authenticate", "Secure-Session-Challenge", "Secure-Session-Registration",
}

// checkDocumentedHeaders checks that the document names the headers of an answer. The clear of a cookie may come with many answers, as the
// document says of all.
func (h *harness) checkDocumentedHeaders(op *openapi3.Operation, r response) {
	h.Helper()
	known := op.Responses.Status(r.Status)
	if !assert.NotNil(h, known, "openapi.yaml does not know this answer: %s %d", op.OperationID, r.Status) { // the validator lets redirects pass
		return
	}
	names := make(map[string]bool)
	for name := range known.Value.Headers {
		names[http.CanonicalHeaderKey(name)] = true
	}
	for _, name := range documentedHeaders {
		lines := r.Header[name]
		if name == "Set-Cookie" {
			lines = slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.Contains(line, "; Max-Age=0;") })
		}
		assert.True(h, names[name] || len(lines) == 0, "openapi.yaml does not know this header of %s %d: %s: %q", op.OperationID, r.Status, name, lines)
	}
}

// refusedAsItIs reports whether the server refused the request because of its form, or before it had checked the form: the suite
// sends malformed requests on purpose.
func refusedAsItIs(r response) bool {
	switch r.Status {
	case 400, 405, 413, 415, 422, 431:
		return true
	}
	return r.Status == 403 && r.Code() != "reauth_required"
}

// findRoute returns the document's route for the request, nil if there is none.
func findRoute(doc *openapi3.T, admin bool, req request) (*routers.Route, map[string]string) {
	method := req.Method
	path := strings.TrimPrefix(req.Path, "http://")
	if path != req.Path {
		path = path[strings.IndexByte(path, '/'):]
	}
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	verify := doc.Paths.Value("/auth/verify")
	if method == "HEAD" || path == "/auth/verify" && verify.Operations()[method] == nil { // verify takes any method, as its description says
		method = "GET"
	}
	for template, item := range doc.Paths.Map() {
		params, ok := match(template, path)
		op := item.Operations()[method]
		if ok && op != nil && slices.Contains(op.Tags, "admin") == admin {
			return &routers.Route{Spec: doc, Path: template, PathItem: item, Method: method, Operation: op}, params
		}
	}
	return nil, nil
}

func match(template, path string) (map[string]string, bool) {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	params := make(map[string]string)
	for i := range want {
		name, isParam := strings.CutPrefix(want[i], "{")
		switch {
		case isParam && got[i] != "":
			params[strings.TrimSuffix(name, "}")] = got[i]
		case want[i] != got[i]:
			return nil, false
		}
	}
	return params, true
}

func (d *document) saw(op *openapi3.Operation, status int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[fmt.Sprint(op.OperationID, " ", status)] = true
}

// knows reports whether it was asked about this shape before.
func (d *document) knows(shape string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.known[shape]
	d.known[shape] = true
	return before
}

// checkSeen fails for a success that the document promises but no rule has received.
func (d *document) checkSeen(t *testing.T) {
	t.Helper()
	for path, item := range d.doc.Paths.Map() {
		for method, op := range item.Operations() {
			for status := range op.Responses.Map() {
				assert.True(t, status >= "300" || d.seen[op.OperationID+" "+status], "openapi.yaml promises %s for %s %s, and no rule has met it", status, method, path)
			}
		}
	}
}

func init() { // package browsertest checks the page's files
	for _, t := range []string{"text/html", "text/javascript", "text/css"} {
		openapi3filter.RegisterBodyDecoder(t, openapi3filter.PlainBodyDecoder)
	}
}
