package httpsession

import (
	"net/http"
	"slices"
	"sync"
)

// savedHeader is a copy of the headers that enclosing middlewares have set. The zero value is a copy of none.
type savedHeader struct{ lines *headerLines }

// headerLines are the names of a header, each with the end of its values, and the values of all names.
type headerLines struct {
	names  []string
	ends   []int
	values []string
}

// headers is a pool of *headerLines.
var headers = sync.Pool{New: func() any { return new(headerLines) }}

func (s *savedHeader) save(h http.Header) {
	if len(h) == 0 {
		return
	}
	s.lines = headers.Get().(*headerLines)
	for name, values := range h {
		s.lines.values = append(s.lines.values, values...)
		s.lines.names, s.lines.ends = append(s.lines.names, name), append(s.lines.ends, len(s.lines.values))
	}
}

// restore makes h what it was when it was saved.
func (s *savedHeader) restore(h http.Header) {
	clear(h)
	if s.lines == nil {
		return
	}
	start := 0
	for i, name := range s.lines.names {
		h[name] = slices.Clone(s.lines.values[start:s.lines.ends[i]])
		start = s.lines.ends[i]
	}
}

// release returns the copy to the pool without its lines, because they may set cookies.
func (s *savedHeader) release() {
	if l := s.lines; l != nil {
		clear(l.names)
		clear(l.values)
		l.names, l.ends, l.values = l.names[:0], l.ends[:0], l.values[:0]
		headers.Put(l)
		s.lines = nil
	}
}
