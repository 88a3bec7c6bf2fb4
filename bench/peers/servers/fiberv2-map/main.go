// The least that a session middleware for Fiber can do, which is too little for real use: the sessions are in one map under one
// lock, in clear, never expire and keep no values. A user has a list of sessions, so that a login beyond the limit ends the
// oldest. It shows how much of the distance between bare Fiber and a session server belongs to looking a session up at all.
package main

import (
	"crypto/rand"
	"encoding/json"
	"os"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck/bench/peers/internal/peer"
)

const maxPerUser = 100 // as coatcheck's

type session struct {
	user, id  string
	refreshed bool
}

// tokens are those of a user's sessions, the oldest at next once there are maxPerUser.
type tokens struct {
	all  []string
	next int
}

var (
	mu       sync.RWMutex
	sessions = map[string]*session{} // guarded by mu: by token
	users    = map[string]*tokens{}  // guarded by mu
)

func main() {
	cfg := fiber.Config{DisableStartupMessage: true}
	if os.Getenv("PEER_TIMEOUTS") != "" { // coatcheck's
		cfg.ReadTimeout, cfg.WriteTimeout, cfg.IdleTimeout = 5*time.Second, 5*time.Second, time.Minute
	}
	app := fiber.New(cfg)
	app.Post("/auth/login", login)
	app.Get("/auth/me", me)
	app.Post("/auth/refresh", refresh)
	app.Post("/auth/logout", logout)
	peer.Must(app.Listener(peer.Listen()))
}

// find returns the session of a request, nil for none.
func find(c *fiber.Ctx) *session {
	mu.RLock()
	defer mu.RUnlock()
	return sessions[string(c.Request().Header.Cookie(peer.CookieName))]
}

// begin keeps a session under a new token, and sets the cookie.
func begin(c *fiber.Ctx, s *session) error {
	token := rand.Text()
	mu.Lock()
	sessions[token] = s
	list := users[s.user]
	if list == nil {
		list = &tokens{}
		users[s.user] = list
	}
	if len(list.all) < maxPerUser {
		list.all = append(list.all, token)
	} else {
		delete(sessions, list.all[list.next])
		list.all[list.next] = token
		list.next = (list.next + 1) % maxPerUser
	}
	mu.Unlock()
	c.Response().Header.Set(fiber.HeaderSetCookie, peer.CookieName+"="+token+"; Path=/; HttpOnly")
	return writeView(c, s)
}

func end(c *fiber.Ctx) {
	mu.Lock()
	delete(sessions, string(c.Request().Header.Cookie(peer.CookieName)))
	mu.Unlock()
}

func login(c *fiber.Ctx) error {
	var req peer.LoginRequest
	if err := json.Unmarshal(c.Body(), &req); err != nil {
		return fiber.ErrBadRequest
	}
	return begin(c, &session{user: req.UserID, id: rand.Text()[:22]})
}

func me(c *fiber.Ctx) error { return writeView(c, find(c)) }

func refresh(c *fiber.Ctx) error {
	s := find(c)
	if s == nil {
		return writeView(c, nil)
	}
	end(c)
	return begin(c, &session{user: s.user, id: rand.Text()[:22], refreshed: true})
}

func logout(c *fiber.Ctx) error {
	end(c)
	c.ClearCookie(peer.CookieName)
	return c.SendStatus(fiber.StatusNoContent)
}

// head writes the headers that every answer of coatcheck's GET /auth/me has.
var head = peer.Answers()["GET /auth/me"]

func writeView(c *fiber.Ctx, s *session) error {
	head.WriteHead(c.Response())
	var space [256]byte
	b := peer.AppendAnonymous(space[:0])
	if s != nil {
		b = peer.AppendView(space[:0], s.user, s.id, s.refreshed)
	}
	c.Response().SetBody(b)
	return nil
}
