package bench

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/fibersession"
)

func valueName(i int) string { return fmt.Sprintf("value-%d", i) }

// BenchmarkValues is a request whose handler reads or writes the last value of a session that has one, two or eight values of 16
// to 1024 bytes. Eight values of 350 bytes are the most that a session holds (3 KiB).
func BenchmarkValues(b *testing.B) {
	onBoth(b, func(b *testing.B, store coatcheck.Store) {
		for _, v := range [...]struct{ n, size int }{{1, 16}, {1, 128}, {1, 1024}, {2, 16}, {2, 128}, {2, 1024}, {8, 16}, {8, 128}, {8, 350}} {
			b.Run(fmt.Sprintf("%dx%d", v.n, v.size), func(b *testing.B) {
				m, err := coatcheck.NewManager(store, policy)
				require.NoError(b, err)
				cookie := make([]byte, cookieLen)
				values := make([]string, v.n)
				for i := range values {
					values[i] = strings.Repeat("v", v.size)
				}
				require.NoError(b, begin(m, "user", values, cookie))
				handler := valuesApp(store, v.n-1, v.size)
				b.Run("read", func(b *testing.B) {
					withTwin(b, handler, fasthttp.StatusOK, func(c *client, _ int) {
						c.prepare(fasthttp.MethodGet, "/auth/read", cookie, "")
					})
				})
				b.Run("write", func(b *testing.B) {
					withTwin(b, handler, fasthttp.StatusNoContent, func(c *client, _ int) {
						c.prepare(fasthttp.MethodPost, "/auth/write", cookie, "")
					})
				})
			})
		}
	})
}

// valuesApp is an application on the library, with one handler that answers a value and one that sets it to another.
func valuesApp(store coatcheck.Store, value, size int) fasthttp.RequestHandler {
	app := fiber.New(fiber.Config{CaseSensitive: true, StrictRouting: true, DisableStartupMessage: true})
	sessions, err := fibersession.New(store, fibersession.Config{
		Cookie: fibersession.Cookie{Name: cookieName, Insecure: true}, Policy: policy, Logger: discard(),
	})
	if err != nil {
		panic(err)
	}
	app.Use(sessions)
	name := valueName(value)
	app.Get("/auth/read", func(c *fiber.Ctx) error {
		v, err := coatcheck.Get[string](fibersession.Get(c), name)
		if err != nil {
			return err
		}
		return c.SendString(v)
	})
	others := [...]string{strings.Repeat("a", size), strings.Repeat("b", size)}
	n := 0
	app.Post("/auth/write", func(c *fiber.Ctx) error {
		n++
		if err := fibersession.Get(c).Insert(name, others[n%2]); err != nil {
			return err
		}
		return c.SendStatus(fiber.StatusNoContent)
	})
	return app.Handler()
}
