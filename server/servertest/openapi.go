package servertest

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// document is the OpenAPI document that the server serves, and what of it a run has seen. Everything that the suite sends and
// gets is held against it: a route, a status or a member that it does not know fails the rule that met it.
type document struct {
	load  sync.Once
	doc   *openapi3.T
	rules atomic.Int32 // that ran

	mu    sync.Mutex
	seen  map[string]bool // guarded by mu: "operation status"
	known map[string]bool // guarded by mu: answers that were held against the document before; most are alike
}

func (d *document) get(h *harness) *openapi3.T {
	h.Helper()
	d.load.Do(func() {
		resp, err := h.wire.send(request{method: "GET", path: "/openapi.yaml"})
		require.NoError(h, err)
		doc, err := openapi3.NewLoader().LoadFromData([]byte(resp.body))
		require.NoError(h, err)
		require.NoError(h, doc.Validate(h.Context()))
		d.doc = doc
	})
	require.NotNil(h, d.doc, "the document could not be read")
	return d.doc
}

// checkContract holds a request to one of the listeners, and its answer, against the document.
func (h *harness) checkContract(listener *wire, req request, r response) {
	h.Helper()
	route, params := findRoute(h.api.get(h), listener == h.admin, req)
	if route == nil {
		preflight := req.method == "OPTIONS" && r.status == 204
		assert.True(h, r.status >= 400 || preflight, "%s %s is not in openapi.yaml and was answered %d", req.method, req.path, r.status)
		return
	}
	h.api.saw(route.Operation, r.status)
	in := &openapi3filter.RequestValidationInput{
		PathParams: params, Route: route,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	var err error
	in.Request, err = http.ReadRequest(bufio.NewReader(strings.NewReader(req.text(listener.addr))))
	if err != nil { // the answer is what matters
		in.Request = &http.Request{Method: req.method, Header: http.Header{}}
	}
	if !refusedAsItIs(r) {
		if assert.NoError(h, err, "the server took a request that is none") {
			err = openapi3filter.ValidateRequest(h.Context(), in)
			assert.NoError(h, err, "openapi.yaml does not know this request: %s %s, answered %d", req.method, req.path, r.status)
		}
	}
	if req.method == "HEAD" {
		assert.NotNil(h, route.Operation.Responses.Status(r.status), "openapi.yaml does not know this answer: HEAD %s %d", req.path, r.status)
		return
	}
	if h.api.knows(route.Operation, r) {
		return
	}
	err = openapi3filter.ValidateResponse(h.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: r.status, Header: r.header, Body: io.NopCloser(strings.NewReader(r.body)), Options: in.Options,
	})
	assert.NoError(h, err, "openapi.yaml does not know this answer: %s %s %d %s", req.method, req.path, r.status, r.body)
}

// refusedAsItIs reports whether the server refused the request for its form, or before it had looked at that: the suite sends
// such requests on purpose.
func refusedAsItIs(r response) bool {
	switch r.status {
	case 400, 405, 413, 415, 422, 431:
		return true
	}
	return r.status == 403 && r.code() != "reauth_required"
}

// findRoute returns what the document says about the request, nil if nothing.
func findRoute(doc *openapi3.T, admin bool, req request) (*routers.Route, map[string]string) {
	method := req.method
	path := strings.TrimPrefix(req.path, "http://")
	if path != req.path {
		path = path[strings.IndexByte(path, '/'):]
	}
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	if method == "HEAD" || path == "/auth/verify" { // which takes any method, as its description says
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

// names are what differs from one answer to the next that are alike otherwise, each in the one form that it may have.
var names = regexp.MustCompile(`"[A-Za-z0-9_-]{22}"|"user-[A-Z2-7]{26}"|"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"|=[A-Za-z0-9_-]{43};`)

// knows reports whether it was asked about the like before. The validator compiles the schema each time, which costs ten times
// the request.
func (d *document) knows(op *openapi3.Operation, r response) bool {
	head := r.header.Clone()
	head.Del("Date")
	answer := names.ReplaceAllString(fmt.Sprint(op.OperationID, r.status, head, r.body), "")
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.known[answer]
	d.known[answer] = true
	return before
}

// checkSeen fails for a success that the document promises and no rule has met.
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

func init() { // the page's files are looked at by package browsertest
	for _, t := range []string{"text/html", "text/javascript", "text/css"} {
		openapi3filter.RegisterBodyDecoder(t, openapi3filter.PlainBodyDecoder)
	}
}
