package fiber3session

import (
	"github.com/gofiber/fiber/v3"

	"github.com/coatcheck/coatcheck/internal/fasthttpsession"
)

// RegisterDevice is the handler that binds a session to the browser's device (Config.DBSC). Mount it behind the middleware for
// POST, at /register below that path.
func RegisterDevice(c fiber.Ctx) error {
	return fasthttpsession.HandleDevice(c.RequestCtx(), fasthttpsession.Register)
}

// RefreshDevice is the handler that renews the token of a bound session for a proof of its device. Mount it behind the
// middleware for POST, at /refresh below Config.DBSC. Keep it mounted when Config.DBSC is taken out again, for the sessions
// that are bound.
func RefreshDevice(c fiber.Ctx) error {
	return fasthttpsession.HandleDevice(c.RequestCtx(), fasthttpsession.Refresh)
}
