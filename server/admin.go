package server

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// adminRoutes registers all routes of the admin contract.
func (s *Server) adminRoutes(metrics prometheus.Gatherer) {
	app := s.admin
	app.Use(s.adminOnly)
	app.Get("/healthz", func(c *fiber.Ctx) error { return c.JSON(fiber.Map{"status": "ok"}) })
	app.Get("/readyz", s.ready)
	app.Get("/metrics", metricsPage(metrics))
	app.Get("/debug/pprof/", profileIndex)
	app.Get("/debug/pprof/:name", profile)
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

// adminUser returns the path's user ID, percent-decoded once.
func adminUser(c *fiber.Ctx) (string, error) {
	user, err := url.PathUnescape(c.Params("user_id"))
	if err != nil {
		return "", problemBadRequest
	}
	return strings.Clone(user), nil
}

func (s *Server) adminList(c *fiber.Ctx) error {
	user, err := adminUser(c)
	if err != nil {
		return err
	}
	views, err := s.sessionViews(context.Background(), user, coatcheck.Key{})
	if err != nil {
		return err
	}
	return c.JSON(fiber.Map{"sessions": views})
}

func (s *Server) adminEndUser(c *fiber.Ctx) error {
	user, err := adminUser(c)
	if err != nil {
		return err
	}
	n, err := s.endUser(context.Background(), user)
	if err != nil {
		return err
	}
	s.audit.ended(s.client(c.Context()), middleware.EventRevoke, user, "", n)
	return c.JSON(fiber.Map{"revoked": n})
}

func (s *Server) adminEnd(c *fiber.Ctx) error {
	user, err := adminUser(c)
	if err != nil {
		return err
	}
	ctx := context.Background()
	found, err := s.manager.Find(ctx, user, c.Params("id"))
	if err == nil {
		err = s.endOne(ctx, user, found.Key)
	}
	switch {
	case errors.Is(err, coatcheck.ErrNotFound):
		return problemSessionNotFound
	case err != nil:
		return err
	}
	s.audit.ended(s.client(c.Context()), middleware.EventRevoke, user, found.ID.String(), 1)
	return c.SendStatus(fiber.StatusNoContent)
}
