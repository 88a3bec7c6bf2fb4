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
// Counting is on the way of every request, so it costs one addition: in one of several tables, chosen by the connection, so
// that cores do not wait for each other. A scrape adds the tables up. A nil *requests counts nothing.
type requests struct {
	byLength [maxPath]uint8 // the first route of that length, counted from one; 0: none
	byPrefix uint8          // the first route with a parameter, likewise
	routes   []route        // the last one stands for all requests that are none's
	tables   []table        // a power of two of them; never resized

	slots    [600]atomic.Uint32 // of a status, its place in a table; 0: none yet; written by place
	assign   sync.Mutex
	statuses []int // guarded by assign: the status of each place

	counted     *prometheus.Desc
	duration    *prometheus.HistogramVec
	connections prometheus.GaugeFunc
}

// table has for each route a counter for each place.
type table []atomic.Uint64

// route is one line of the contract. What a request needs of it stands in its first cache line: beside a session's work,
// lines cost more than instructions.
type route struct {
	path    [maxPath]byte // up to the parameter, if there is one
	size    uint8         // of path
	next    uint8         // the next one to look at, as in requests.byLength
	anyOne  bool          // of all methods
	getting bool          // of GET and HEAD

	method string
	label  string
	timed  prometheus.Observer
}

const (
	maxTables = 64
	// timedOf: one in so many requests that only read is timed.
	timedOf = 16
	// places is how many statuses are told apart; all others are in place 0, which is nobody's.
	places = 32
	// placeOK is that of 200.
	placeOK = 1
	// noRoute is what is shown for requests of no route: an unknown path, a wrong method, what could not be parsed.
	noRoute = "none"
	// maxPath is longer than any route up to its parameter.
	maxPath = 48
)

// durationBuckets are those of requests and of the store's operations: from a read in memory to a login that hashes a
// password beside many others.
var durationBuckets = []float64{
	5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5,
}

// newRequests returns counters for the application's routes. The error is about a route that it cannot recognize.
func newRequests(app *fiber.App) (*requests, error) {
	q := &requests{
		statuses: []int{placeOK: fiber.StatusOK},
		counted:  prometheus.NewDesc("coatcheck_http_requests_total", "Requests on the public listener, by route and status.", []string{"route", "code"}, nil),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "coatcheck_http_request_duration_seconds",
			Help:    "Time from a request's last byte to its answer; of routes that only read, one in 16 is timed.",
			Buckets: durationBuckets,
		}, []string{"route"}),
		connections: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "coatcheck_http_connections", Help: "Open connections of the public listener.",
		}, func() float64 { return float64(app.Server().GetOpenConnectionsCount()) }),
	}
	if err := q.learn(app); err != nil {
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
		q.tables = append(q.tables, make(table, len(q.routes)*places))
	}
	return q, nil
}

// learn reads the contract from the router, so that no route is forgotten. HEAD is counted as GET, and a route of all
// methods once.
func (q *requests) learn(app *fiber.App) error {
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

// route returns a request's route. The path is as it was sent, which is how the router has it.
func (q *requests) route(ctx *fasthttp.RequestCtx) int {
	method, path := ctx.Method(), ctx.URI().PathOriginal()
	if len(path) < maxPath {
		for n := q.byLength[len(path)]; n != 0; {
			r := &q.routes[n-1]
			if string(path) == string(r.path[:r.size]) && r.takes(method) {
				return int(n - 1)
			}
			n = r.next
		}
	}
	for n := q.byPrefix; n != 0; n = q.routes[n-1].next {
		r := &q.routes[n-1]
		rest, ok := bytes.CutPrefix(path, r.path[:r.size])
		if ok && len(rest) > 0 && bytes.IndexByte(rest, '/') < 0 && r.takes(method) {
			return int(n - 1)
		}
	}
	return len(q.routes) - 1
}

// takes reports whether the route is one for the method.
func (r *route) takes(method []byte) bool {
	if r.getting {
		return string(method) == fiber.MethodGet || string(method) == fiber.MethodHead || r.anyOne
	}
	return r.anyOne || string(method) == r.method
}

// pattern is the route's path with its parameter named, empty for the route that is none.
func (r *route) pattern() string {
	if r.label == noRoute {
		return ""
	}
	return strings.TrimPrefix(r.label, r.method+" ")
}

// passage is one request on its way.
type passage struct {
	seen  *requests // nil: it is not counted
	route int
}

// enter is called before a request is answered.
func (q *requests) enter(ctx *fasthttp.RequestCtx) passage {
	if q == nil {
		return passage{}
	}
	return passage{seen: q, route: q.route(ctx)}
}

// leave is called when the response is complete. Of routes that only read a session each 16th request of a status is timed,
// whatever it took: reading the clock costs as much as a tenth of what the session costs.
func (p passage) leave(ctx *fasthttp.RequestCtx) {
	q := p.seen
	if q == nil {
		return
	}
	n := q.tables[ctx.ConnID()&uint64(len(q.tables)-1)][p.route*places+q.place(ctx.Response.StatusCode())].Add(1)
	if r := &q.routes[p.route]; n%timedOf == 1 || !r.getting && !r.anyOne {
		r.timed.Observe(time.Since(ctx.Time()).Seconds())
	}
}

// refused counts what was no request.
func (q *requests) refused(ctx *fasthttp.RequestCtx) {
	if q != nil {
		q.tables[0][(len(q.routes)-1)*places+q.place(ctx.Response.StatusCode())].Add(1)
	}
}

func (q *requests) place(status int) int {
	if status == fiber.StatusOK {
		return placeOK
	}
	if uint(status) >= uint(len(q.slots)) {
		return 0
	}
	if n := q.slots[status].Load(); n != 0 {
		return int(n)
	}
	q.assign.Lock()
	defer q.assign.Unlock()
	if n := q.slots[status].Load(); n != 0 {
		return int(n)
	}
	if len(q.statuses) == places {
		return 0
	}
	q.statuses = append(q.statuses, status)
	q.slots[status].Store(uint32(len(q.statuses) - 1))
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
		for place, status := range statuses {
			var n uint64
			for _, t := range q.tables {
				n += t[i*places+place].Load()
			}
			if n == 0 {
				continue
			}
			code := "other"
			if place > 0 {
				code = strconv.Itoa(status)
			}
			ch <- prometheus.MustNewConstMetric(q.counted, prometheus.CounterValue, float64(n), q.routes[i].label, code)
		}
	}
}
