// The ceiling: a bare Fiber application that answers what coatcheck answered, byte by byte, and does no session work. No
// session server on Fiber can be faster.
package main

import (
	"os"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck/bench/peers/internal/peer"
)

func main() {
	cfg := fiber.Config{DisableStartupMessage: true}
	if os.Getenv("PEER_TIMEOUTS") != "" {
		// coatcheck's defaults, which show what deadlines on every read and write cost without session work.
		cfg.ReadTimeout, cfg.WriteTimeout, cfg.IdleTimeout = 5*time.Second, 5*time.Second, time.Minute
	}
	app := fiber.New(cfg)
	for route, answer := range peer.Answers() {
		method, path, _ := strings.Cut(route, " ")
		app.Add(method, path, func(c *fiber.Ctx) error {
			answer.Write(c.Response())
			return nil
		})
	}
	peer.Must(app.Listener(peer.Listen()))
}
