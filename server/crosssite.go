package server

import (
	"bytes"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// sameSite refuses unsafe requests that a browser sends for another site's page: by Sec-Fetch-Site where the browser sends
// it, else by Origin. With neither header it is no browser, or none that can be told. Trusted origins pass.
func (s *Server) sameSite(c *fiber.Ctx) error {
	h := &c.Request().Header
	if s.trustedOrigin(c.Context()) != "" {
		return c.Next()
	}
	origins := h.PeekAll(fasthttp.HeaderOrigin)
	twice := len(origins) > 1
	var origin []byte
	if len(origins) > 0 {
		origin = origins[0]
	}
	if sites := h.PeekAll("Sec-Fetch-Site"); len(sites) > 0 {
		if site := string(sites[0]); len(sites) == 1 && (site == "same-origin" || site == "none") {
			return c.Next()
		}
	} else if len(origins) == 0 || !twice && ownOrigin(origin, h.Host(), c.Context().IsTLS()) {
		return c.Next()
	}
	s.audit.crossSite(c.Context(), origin)
	return problemCrossSite
}

// ownOrigin reports whether the origin's host and port are those of the Host header. A port that is the scheme's own may be
// left out on either side. Behind a proxy the scheme is not known; where this server speaks TLS itself it must be https.
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
