package server

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

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
	return s.adminEndAll(c, user)
}

// adminEndQueried is adminEndUser for IDs that clients change on the way when they are part of a path, such as "..".
func (s *Server) adminEndQueried(c *fiber.Ctx) error {
	q, err := readQuery(c, "user_id")
	switch {
	case err != nil:
		return err
	case q["user_id"] == "":
		return problemAdminQuery
	}
	return s.adminEndAll(c, q["user_id"])
}

func (s *Server) adminEndAll(c *fiber.Ctx, user string) error {
	n, err := s.endUser(context.Background(), user)
	if err == nil || n > 0 {
		s.audit.ended(s.client(c.Context()), middleware.EventRevoke, user, "", n)
	}
	if err != nil {
		return err
	}
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
