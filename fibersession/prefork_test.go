//go:build unix

package fibersession_test

import (
	"os"
	"testing"

	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/fibersession"
	"github.com/coatcheck/coatcheck/internal/middlewaretest"
)

func TestMain(m *testing.M) { os.Exit(middlewaretest.Prefork(m, servePrefork)) }

func TestPrefork(t *testing.T) { middlewaretest.CheckPrefork(t) }

func servePrefork(store coatcheck.Store, addr string) error {
	sessions, err := fibersession.New(store, fibersession.Config{})
	if err != nil {
		return err
	}
	app := fiber.New(fiber.Config{Prefork: true, DisableStartupMessage: true})
	app.Use(sessions)
	app.Get("/", func(c *fiber.Ctx) error { return c.SendString("served" + fibersession.Get(c).UserID()) })
	app.Get("/stop", func(*fiber.Ctx) error {
		os.Exit(0)
		return nil
	})
	return app.Listen(addr)
}
