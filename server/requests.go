package server

import (
	"bytes"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
)

// requests counts the public listener's requests by route and status, and times them. It is a prometheus.Collector.
//
// Each request is counted, so counting costs one addition: in one of several tables, chosen by the connection, so that cores
// do not write the same cache line. A scrape adds the tables up. A nil *requests counts nothing.
type requests struct {
	byLength [maxPath]uint8 // the first route of that length, counted from one; 0: none
	byPrefix uint8          // the first route with a parameter, likewise
	routes   []route        // the last one stands for all requests that match no route
	tables   []table        // a power of two of them; never resized

	slotOf   [600]atomic.Uint32 // the slot of each status in a table; 0: none yet; written by slot
	assign   sync.Mutex
	statuses []int // guarded by assign: the status of each slot

	counted     *prometheus.Desc
	duration    *prometheus.HistogramVec
	connections prometheus.GaugeFunc
}

// table has a counter for each status slot of each route.
type table []atomic.Uint64

// route is one route of the application. Its first cache line has all fields that matching a request needs.
type route struct {
	path    [maxPath]byte // up to the parameter, if there is one
	size    uint8         // of path
	next    uint8         // the next route to compare, as in requests.byLength
	anyOne  bool          // the route is for all methods
	getting bool          // the route is for GET and HEAD

	method string
	label  string
	timed  prometheus.Observer
}

const (
	maxTables = 64
	// timedOf says that one in so many read-only requests is timed.
	timedOf = 16
	// statusSlots is how many statuses have a counter of their own; all others share slot 0.
	statusSlots = 32
	// slotOK is the slot of status 200.
	slotOK = 1
	// noRoute is the label of requests that no route matches: an unknown path, a wrong method, unparsable bytes.
	noRoute = "none"
	// maxPath is longer than any route up to its parameter.
	maxPath = 48
)

// durationBuckets are the histogram buckets of requests and of the store's operations, in seconds: from a read in memory to a
// login that waits for other logins' password hashes.
var durationBuckets = []float64{
	5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5,
}

// newRequests returns counters for the application's routes; connections returns how many are open. The error names a route that it
// cannot match.
func newRequests(app *fiber.App, connections func() int) (*requests, error) {
	q := &requests{
		statuses: []int{slotOK: fiber.StatusOK},
		counted:  prometheus.NewDesc("coatcheck_http_requests_total", "Requests on the public listener, by route and status.", []string{"route", "code"}, nil),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "coatcheck_http_request_duration_seconds",
			Help:    "Time from a request's last byte to its answer; of routes that only read, one in 16 is timed.",
			Buckets: durationBuckets,
		}, []string{"route"}),
		connections: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "coatcheck_http_connections", Help: "Open connections of the public listener, those of GET /auth/watch included.",
		}, func() float64 { return float64(connections()) }),
	}
	if err := q.readRoutes(app); err != nil {
		return nil, err
	}
	for i := range q.routes {
		q.routes[i].timed = q.duration.WithLabelValues(q.routes[i].label)
	}
	n := 1
	for n < maxTables && n < runtime.GOMAXPROCS(0) {
		n *= 2
	}
	for range n {
		q.tables = append(q.tables, make(table, len(q.routes)*statusSlots))
	}
	return q, nil
}

// readRoutes takes the routes from the router, so that none is missed. HEAD is counted as GET, and a route for all methods
// once.
func (q *requests) readRoutes(app *fiber.App) error {
	methods := make(map[string][]string)
	var paths []string
	for _, r := range app.GetRoutes(true) {
		if methods[r.Path] == nil {
			paths = append(paths, r.Path)
		}
		methods[r.Path] = append(methods[r.Path], r.Method)
	}
	for _, path := range paths {
		prefix, name, param := strings.Cut(path, ":")
		if len(prefix) >= maxPath || len(q.routes) > math.MaxUint8-len(methods[path]) || strings.ContainsAny(path, "*+") || strings.Contains(name, "/") {
			return fmt.Errorf("metrics: route %s: must be short, and only the last segment may be a parameter", path)
		}
		label, first := prefix, &q.byLength[len(prefix)]
		if param {
			label, first = prefix+"{"+name+"}", &q.byPrefix
		}
		anyOne := len(methods[path]) == len(app.Config().RequestMethods)
		for _, method := range methods[path] {
			if method == fiber.MethodHead || anyOne && method != fiber.MethodGet {
				continue
			}
			q.routes = append(q.routes, route{
				size: uint8(len(prefix)), next: *first, anyOne: anyOne, getting: method == fiber.MethodGet,
				method: method, label: method + " " + label,
			})
			*first = uint8(len(q.routes))
			r := &q.routes[len(q.routes)-1]
			copy(r.path[:], prefix)
			if anyOne {
				r.label = label
			}
		}
	}
	q.routes = append(q.routes, route{label: noRoute})
	return nil
}

// route returns the index of the request's route. The path is compared as it was sent, as the router does.
func (q *requests) route(ctx *fasthttp.RequestCtx) int {
	method, path := ctx.Method(), ctx.URI().PathOriginal()
	if len(path) < maxPath {
		for n := q.byLength[len(path)]; n != 0; {
			r := &q.routes[n-1]
			if string(path) == string(r.path[:r.size]) && r.matches(method) {
				return int(n - 1)
			}
			n = r.next
		}
	}
	for n := q.byPrefix; n != 0; n = q.routes[n-1].next {
		r := &q.routes[n-1]
		rest, ok := bytes.CutPrefix(path, r.path[:r.size])
		if ok && len(rest) > 0 && bytes.IndexByte(rest, '/') < 0 && r.matches(method) {
			return int(n - 1)
		}
	}
	return len(q.routes) - 1
}

// matches reports whether the route is for the method.
func (r *route) matches(method []byte) bool {
	if r.getting {
		return string(method) == fiber.MethodGet || string(method) == fiber.MethodHead || r.anyOne
	}
	return r.anyOne || string(method) == r.method
}

// pattern returns the route's path with its parameter named; empty for noRoute.
func (r *route) pattern() string {
	if r.label == noRoute {
		return ""
	}
	return strings.TrimPrefix(r.label, r.method+" ")
}

// countedRequest is a request that is being answered.
type countedRequest struct {
	requests *requests // nil: the request is not counted
	route    int
}

// begin is called before a request is answered.
func (q *requests) begin(ctx *fasthttp.RequestCtx) countedRequest {
	if q == nil {
		return countedRequest{}
	}
	return countedRequest{requests: q, route: q.route(ctx)}
}

// end is called when the response is complete. On routes that only read a session, each 16th request of a status is timed,
// because reading the clock costs a tenth of what the session costs.
func (p countedRequest) end(ctx *fasthttp.RequestCtx) {
	q := p.requests
	if q == nil {
		return
	}
	n := q.tables[ctx.ConnID()&uint64(len(q.tables)-1)][p.route*statusSlots+q.slot(ctx.Response.StatusCode())].Add(1)
	if r := &q.routes[p.route]; n%timedOf == 1 || !r.getting && !r.anyOne {
		r.timed.Observe(time.Since(ctx.Time()).Seconds())
	}
}

// refused counts requests that could not be parsed.
func (q *requests) refused(ctx *fasthttp.RequestCtx) {
	if q != nil {
		q.tables[0][(len(q.routes)-1)*statusSlots+q.slot(ctx.Response.StatusCode())].Add(1)
	}
}

func (q *requests) slot(status int) int {
	if status == fiber.StatusOK {
		return slotOK
	}
	if uint(status) >= uint(len(q.slotOf)) {
		return 0
	}
	if n := q.slotOf[status].Load(); n != 0 {
		return int(n)
	}
	q.assign.Lock()
	defer q.assign.Unlock()
	if n := q.slotOf[status].Load(); n != 0 {
		return int(n)
	}
	if len(q.statuses) == statusSlots {
		return 0
	}
	q.statuses = append(q.statuses, status)
	q.slotOf[status].Store(uint32(len(q.statuses) - 1))
	return len(q.statuses) - 1
}

// Describe implements prometheus.Collector.
func (q *requests) Describe(ch chan<- *prometheus.Desc) {
	ch <- q.counted
	q.duration.Describe(ch)
	q.connections.Describe(ch)
}

// Collect implements prometheus.Collector.
func (q *requests) Collect(ch chan<- prometheus.Metric) {
	q.duration.Collect(ch)
	q.connections.Collect(ch)
	q.assign.Lock()
	statuses := q.statuses
	q.assign.Unlock()
	for i := range q.routes {
		for slot, status := range statuses {
			var n uint64
			for _, t := range q.tables {
				n += t[i*statusSlots+slot].Load()
			}
			if n == 0 {
				continue
			}
			code := "other"
			if slot > 0 {
				code = strconv.Itoa(status)
			}
			ch <- prometheus.MustNewConstMetric(q.counted, prometheus.CounterValue, float64(n), q.routes[i].label, code)
		}
	}
}
