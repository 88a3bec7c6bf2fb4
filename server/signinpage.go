package server

import (
	"bytes"
	"cmp"
	_ "embed" // the page's files
	"fmt"
	"html/template"

	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/server/login"
)

// The page to sign in on, for the login modes that have one. It works through the JSON API alone.
var (
	//go:embed page/login.html
	signInHTML string
	//go:embed page/login.js
	signInScript []byte

	signInTemplate = template.Must(template.New("login").Parse(signInHTML))
)

// afterSignIn is where a login leads that was begun without a return address, seen from the page to sign in on. A proxy may have
// taken away a prefix that nothing here knows.
const afterSignIn = "devices"

// signInPage answers with the page, or sends a person who is signed in already to the return address.
func (s *Server) signInPage(c *fiber.Ctx, r *coatcheck.Request) error {
	target := s.returns.target(c)
	if len(s.shownUser(nil, r, r.EncodedClaims())) > 0 { // or verify would send the person back here
		return sendOn(c, cmp.Or(target, afterSignIn))
	}
	form := s.traits.Form
	data := struct {
		Provider, Password, Remember bool
		Return, Target               string
	}{form == login.ProviderForm, form == login.PasswordForm, s.remember > 0, target, cmp.Or(target, afterSignIn)}
	var b bytes.Buffer
	if err := signInTemplate.Execute(&b, data); err != nil {
		return fmt.Errorf("the page to sign in on: %w", err)
	}
	c.Set(fiber.HeaderContentSecurityPolicy, pageCSP)
	return static(typeHTML, b.Bytes())(c)
}

// sendOn leads a person who is signed in to the target.
func sendOn(c *fiber.Ctx, target string) error {
	c.Set(fiber.HeaderLocation, target)
	c.Status(fiber.StatusSeeOther)
	return nil
}
