package server

import (
	"bytes"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// sameSite refuses unsafe requests that a browser sends for a page of another site: by Sec-Fetch-Site if the browser sends
// it, else by Origin. A request with neither header comes from no browser, or from one that cannot be recognised. Trusted
// origins pass. No browser sends either header twice.
func (s *Server) sameSite(c *fiber.Ctx) error {
	h := &c.Request().Header
	origin, origins := first(h, fasthttp.HeaderOrigin)
	site, sites := first(h, "Sec-Fetch-Site")
	switch {
	case origins > 1 || sites > 1:
	case s.trustedOrigin(c.Context()) != "":
		return c.Next()
	case sites == 1:
		if string(site) == "same-origin" || string(site) == "none" {
			return c.Next()
		}
	case origins == 0 || ownOrigin(origin, h.Host(), c.Context().IsTLS()):
		return c.Next()
	}
	s.audit.crossSite(s.client(c.Context()), origin)
	return problemCrossSite
}

// first returns the first line of a header and how many there are.
func first(h *fasthttp.RequestHeader, name string) (line []byte, n int) {
	lines := h.PeekAll(name) // good until the next call
	if len(lines) == 0 {
		return nil, 0
	}
	return lines[0], len(lines)
}

// ownOrigin reports whether the origin's host and port are those of the Host header. The scheme's default port may be left
// out on either side. Behind a proxy the scheme is not known; where this server speaks TLS itself it must be https.
func ownOrigin(origin, host []byte, tls bool) bool {
	if tls && !bytes.HasPrefix(origin, []byte("https://")) {
		return false
	}
	for _, scheme := range [...]struct{ prefix, port string }{{"https://", ":443"}, {"http://", ":80"}} {
		if authority, ok := bytes.CutPrefix(origin, []byte(scheme.prefix)); ok {
			port := []byte(scheme.port)
			return len(authority) > 0 && bytes.EqualFold(bytes.TrimSuffix(authority, port), bytes.TrimSuffix(host, port))
		}
	}
	return false
}
