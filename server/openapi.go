package server

import (
	_ "embed" // the document

	"github.com/gofiber/fiber/v2"
)

// openAPI describes every route of both listeners. Package servertest holds each request and response of its suite against it.
//
//go:embed openapi.yaml
var openAPI []byte

var contentTypeYAML = []byte("application/yaml") // RFC 9512

func describe(c *fiber.Ctx) error {
	c.Response().Header.SetContentTypeBytes(contentTypeYAML)
	c.Response().SetBody(openAPI)
	return nil
}
