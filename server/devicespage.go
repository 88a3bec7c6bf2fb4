package server

import (
	"bytes"
	_ "embed" // the page's files
	"fmt"
	"html/template"

	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck/server/login"
)

// The devices page is these three files. It looks at no session and never sets or clears a cookie: all that it does, it asks
// the JSON API for.
var (
	//go:embed page/devices.html
	pageHTML string
	//go:embed page/devices.js
	pageScript []byte
	//go:embed page/devices.css
	pageStyle []byte
)

var (
	typeHTML   = []byte("text/html; charset=utf-8")
	typeScript = []byte("text/javascript; charset=utf-8")
	typeStyle  = []byte("text/css; charset=utf-8")
)

// pageCSP lets the page have its own script and style and speak to its own server, and nothing else (CSP level 3). No string
// becomes markup in it (Trusted Types).
const pageCSP = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; " +
	"frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// newDevicesPage is the page as this server shows it: how one signs in depends on the configuration.
func newDevicesPage(cfg Config) ([]byte, error) {
	_, open := cfg.Login.(login.Open)
	page, err := template.New("devices").Parse(pageHTML)
	if err != nil {
		return nil, fmt.Errorf("the devices page: %w", err)
	}
	var b bytes.Buffer
	err = page.Execute(&b, struct {
		Open     bool
		LoginURL string
	}{open, cfg.VerifyLoginURL})
	if err != nil {
		return nil, fmt.Errorf("the devices page: %w", err)
	}
	return b.Bytes(), nil
}

// devicesPage is the one answer that is meant to be rendered, with a policy of its own.
func devicesPage(page []byte) fiber.Handler {
	answer := static(typeHTML, page)
	return func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentSecurityPolicy, pageCSP)
		return answer(c)
	}
}

// static answers everybody alike.
func static(contentType, body []byte) fiber.Handler {
	return func(c *fiber.Ctx) error {
		c.Response().Header.SetContentTypeBytes(contentType)
		c.Response().SetBodyRaw(body)
		return nil
	}
}
