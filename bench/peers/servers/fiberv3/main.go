// Fiber v3 with its session middleware, which saves after every handler.
package main

import (
	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/extractors"
	"github.com/gofiber/fiber/v3/middleware/session"
	"github.com/gofiber/storage/redis/v3"

	"github.com/coatcheck/coatcheck/bench/peers/internal/peer"
)

func main() {
	cfg := session.Config{
		IdleTimeout:    peer.TTL,
		CookieHTTPOnly: true,
		Extractor:      extractors.FromCookie(peer.CookieName),
	}
	if url := peer.Redis(); url != "" {
		cfg.Storage = redis.New(redis.Config{URL: url})
	}
	app := fiber.New()
	app.Use(session.New(cfg))
	app.Post("/auth/login", login)
	app.Get("/auth/me", me)
	app.Post("/auth/refresh", refresh)
	app.Post("/auth/logout", logout)
	peer.Must(app.Listener(peer.Listen(), fiber.ListenConfig{DisableStartupMessage: true}))
}

func view(sess *session.Middleware) peer.View {
	user, _ := sess.Get("user_id").(string)
	refreshed, _ := sess.Get("refreshed").(bool)
	return peer.NewView(user, sess.ID(), refreshed)
}

func login(c fiber.Ctx) error {
	var req peer.LoginRequest
	if err := c.Bind().JSON(&req); err != nil {
		return fiber.ErrBadRequest
	}
	sess := session.FromContext(c)
	if err := sess.Regenerate(); err != nil {
		return err
	}
	sess.Set("user_id", req.UserID)
	sess.Set("refreshed", false)
	return c.JSON(view(sess))
}

func me(c fiber.Ctx) error { return c.JSON(view(session.FromContext(c))) }

func refresh(c fiber.Ctx) error {
	sess := session.FromContext(c)
	if sess.Get("user_id") != nil {
		if err := sess.Regenerate(); err != nil {
			return err
		}
		sess.Set("refreshed", true)
	}
	return c.JSON(view(sess))
}

func logout(c fiber.Ctx) error {
	if err := session.FromContext(c).Destroy(); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
