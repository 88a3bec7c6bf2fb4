package server

import (
	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck"
)

// userInfo answers with the user ID, as the claim sub, and the claims of the session.
func (s *Server) userInfo(c *fiber.Ctx, r *coatcheck.Request) error {
	if _, err := caller(r); err != nil {
		return err
	}
	body := append([]byte(nil), `{"sub":`...)
	body = appendJSONString(body, r.RawUserID())
	if claims := coatcheck.Claims(&r.Session).JSON(); len(claims) > 2 && claims[0] == '{' {
		body = append(append(body, ','), claims[1:]...)
	} else {
		body = append(body, '}')
	}
	c.Response().Header.SetContentTypeBytes(contentTypeJSON)
	c.Response().SetBody(body)
	return nil
}
