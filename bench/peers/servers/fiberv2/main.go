// Fiber v2 with its session middleware, in the way its documentation shows it: Get, and Save after a change only, because
// Save encodes, writes and sets the cookie.
package main

import (
	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/session"
	"github.com/gofiber/storage/redis/v3"

	"github.com/coatcheck/coatcheck/bench/peers/internal/peer"
)

var store *session.Store

func main() {
	cfg := session.Config{Expiration: peer.TTL, CookieHTTPOnly: true, KeyLookup: "cookie:" + peer.CookieName}
	if url := peer.Redis(); url != "" {
		cfg.Storage = redis.New(redis.Config{URL: url})
	}
	store = session.New(cfg)
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Post("/auth/login", login)
	app.Get("/auth/me", me)
	app.Post("/auth/refresh", refresh)
	app.Post("/auth/logout", logout)
	peer.Must(app.Listener(peer.Listen()))
}

func view(sess *session.Session) peer.View {
	user, _ := sess.Get("user_id").(string)
	refreshed, _ := sess.Get("refreshed").(bool)
	return peer.NewView(user, sess.ID(), refreshed)
}

func login(c *fiber.Ctx) error {
	var req peer.LoginRequest
	if err := c.BodyParser(&req); err != nil {
		return fiber.ErrBadRequest
	}
	sess, err := store.Get(c)
	if err != nil {
		return err
	}
	if err := sess.Regenerate(); err != nil {
		return err
	}
	sess.Set("user_id", req.UserID)
	sess.Set("refreshed", false)
	v := view(sess)
	if err := sess.Save(); err != nil {
		return err
	}
	return c.JSON(v)
}

func me(c *fiber.Ctx) error {
	sess, err := store.Get(c)
	if err != nil {
		return err
	}
	return c.JSON(view(sess))
}

func refresh(c *fiber.Ctx) error {
	sess, err := store.Get(c)
	if err != nil {
		return err
	}
	if sess.Get("user_id") == nil {
		return c.JSON(peer.View{})
	}
	if err := sess.Regenerate(); err != nil {
		return err
	}
	sess.Set("refreshed", true)
	v := view(sess)
	if err := sess.Save(); err != nil {
		return err
	}
	return c.JSON(v)
}

func logout(c *fiber.Ctx) error {
	sess, err := store.Get(c)
	if err != nil {
		return err
	}
	if err := sess.Destroy(); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
