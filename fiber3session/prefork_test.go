//go:build unix

package fiber3session_test

import (
	"os"
	"testing"

	"github.com/gofiber/fiber/v3"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/fiber3session"
	"github.com/coatcheck/coatcheck/internal/middlewaretest"
)

func TestMain(m *testing.M) { os.Exit(middlewaretest.Prefork(m, servePrefork)) }

func TestPrefork(t *testing.T) { middlewaretest.CheckPrefork(t) }

func servePrefork(store coatcheck.Store, addr string) error {
	sessions, err := fiber3session.New(store, fiber3session.Config{})
	if err != nil {
		return err
	}
	app := fiber.New()
	app.Use(sessions)
	app.Get("/", func(c fiber.Ctx) error { return c.SendString("served" + fiber3session.Get(c).UserID()) })
	app.Get("/stop", func(fiber.Ctx) error {
		os.Exit(0)
		return nil
	})
	return app.Listen(addr, fiber.ListenConfig{EnablePrefork: true, DisableStartupMessage: true})
}
