package server

import (
	"bytes"
	"context"
	_ "embed" // the page's files
	"fmt"
	"html/template"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck/server/login"
)

// The devices page is these three files. It reads no session and never sets or clears a cookie: it works through the JSON API
// alone.
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

// pageCSP lets the page use its own script and style and call its own server, and nothing else (CSP level 3). Strings cannot
// become markup in it (Trusted Types).
const pageCSP = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; " +
	"frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// signInURL returns where the devices page sends people to sign in: the page that the operator has named, or our own. It is
// empty where neither is known.
func signInURL(cfg Config) string {
	if cfg.VerifyLoginURL == "" && cfg.Login.Traits().Form != login.NoForm {
		return "login"
	}
	return cfg.VerifyLoginURL
}

// waitForProvider is for how long the devices page waits for a provider that has never answered. Without it the page only lacks a link.
const waitForProvider = time.Second

var devicesTemplate = template.Must(template.New("devices").Parse(pageHTML))

// devicesPage serves the one answer that is meant to be rendered, with a content security policy of its own. How a user signs in
// depends on the configuration, and in mode oidc on what the provider offers.
func (s *Server) devicesPage(cfg Config) (fiber.Handler, error) {
	_, open := cfg.Login.(login.Open)
	page := func(endSession string) ([]byte, error) {
		var b bytes.Buffer
		err := devicesTemplate.Execute(&b, struct {
			Open, Provider       bool
			LoginURL, EndSession string
		}{open, cfg.OIDC != nil, signInURL(cfg), endSession})
		if err != nil {
			return nil, fmt.Errorf("the devices page: %w", err)
		}
		return b.Bytes(), nil
	}
	constant, err := page("")
	if err != nil {
		return nil, err
	}
	return func(c *fiber.Ctx) error {
		body := constant
		if s.provider != nil {
			ctx, cancel := context.WithTimeout(s.context(c.Context()), waitForProvider)
			endSession := s.provider.EndSessionURL(ctx)
			cancel()
			var err error
			if body, err = page(endSession); err != nil {
				return err
			}
		}
		c.Set(fiber.HeaderContentSecurityPolicy, pageCSP)
		return static(typeHTML, body)(c)
	}, nil
}

// static gives every request the same answer.
func static(contentType, body []byte) fiber.Handler {
	return func(c *fiber.Ctx) error {
		c.Response().Header.SetContentTypeBytes(contentType)
		c.Response().SetBodyRaw(body)
		return nil
	}
}
