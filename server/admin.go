package server

import (
	"bytes"
	"net/netip"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
)

// adminRoutes registers all routes of the admin contract.
func (s *Server) adminRoutes(metrics prometheus.Gatherer) {
	app := s.admin
	app.Use(s.adminOnly)
	app.Get("/healthz", func(c *fiber.Ctx) error { return c.JSON(fiber.Map{"status": "ok"}) })
	app.Get("/readyz", s.ready)
	app.Get("/metrics", metricsPage(metrics))
	app.Get("/debug/pprof/", profileIndex)
	app.Get("/debug/pprof/:name", s.profile)
	app.Use("/admin", noFragment(problemBadRequest))
	app.Get("/admin/sessions", s.adminListAll)
	app.Delete("/admin/sessions", s.adminEndQueried)
	app.Get("/admin/users/:user_id/sessions", s.adminList)
	app.Delete("/admin/users/:user_id/sessions", s.adminEndUser)
	app.Delete("/admin/users/:user_id/sessions/:id", s.adminEnd)
}

// adminOnly admits requests with a key, if there are keys. Otherwise it keeps web pages out: a browser sends the name that
// the page used as Host, and Origin or Sec-Fetch-Site with requests of scripts, so that a page which rebinds its name to
// loopback is refused.
func (s *Server) adminOnly(c *fiber.Ctx) error {
	h := &c.Request().Header
	if s.keys != nil {
		if lines := h.PeekAll(fasthttp.HeaderAuthorization); len(lines) != 1 || !s.keys.Match(lines[0]) {
			c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="coatcheck"`)
			return problemAdminKey
		}
		return c.Next()
	}
	if !loopbackHost(h.Host()) || len(h.PeekAll(fasthttp.HeaderOrigin)) > 0 || len(h.PeekAll("Sec-Fetch-Site")) > 0 {
		return problemForbidden
	}
	return c.Next()
}

func loopbackHost(host []byte) bool {
	name := string(host)
	if ap, err := netip.ParseAddrPort(name); err == nil {
		return ap.Addr().Unmap().IsLoopback()
	}
	if i := strings.LastIndexByte(name, ':'); i >= 0 && !strings.HasSuffix(name, "]") {
		name = name[:i]
	}
	if bytes.EqualFold([]byte(name), []byte("localhost")) {
		return true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"))
	return err == nil && addr.Unmap().IsLoopback()
}
