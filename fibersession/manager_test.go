package fibersession_test

import (
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/fibersession"
	"github.com/coatcheck/coatcheck/shardstore"
)

// An application's own manager brings the policy, and ends sessions of the middleware.
func TestManagerOfTheApplication(t *testing.T) {
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	manager, err := coatcheck.NewManager(store, coatcheck.Policy{})
	require.NoError(t, err)
	_, err = fibersession.NewFor(manager, fibersession.Config{Policy: coatcheck.Policy{TTL: time.Hour}})
	require.ErrorContains(t, err, "policy")

	sessions, err := fibersession.NewFor(manager, fibersession.Config{})
	require.NoError(t, err)
	app := fiber.New()
	app.Use(sessions)
	app.Get("/login", func(c *fiber.Ctx) error { return fibersession.Get(c).Authenticate("u") })
	app.Get("/user", func(c *fiber.Ctx) error { return c.SendString(fibersession.Get(c).UserID()) })
	get := func(path, cookie string) (body, setCookie string) {
		req := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
		req.Header.Set("Cookie", cookie)
		resp, err := app.Test(req, -1) // without a timeout
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		setCookie, _, _ = strings.Cut(resp.Header.Get("Set-Cookie"), ";")
		return string(text), setCookie
	}
	_, cookie := get("/login", "")
	user, _ := get("/user", cookie)
	assert.Equal(t, "u", user)
	manager.SetNotBefore(time.Now().Add(time.Hour))
	user, _ = get("/user", cookie)
	assert.Empty(t, user)
}
