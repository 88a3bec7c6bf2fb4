package fibersession_test

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/fibersession"
	"github.com/coatcheck/coatcheck/shardstore"
)

// The middleware in an application of one's own.
func Example() {
	store, err := shardstore.New(shardstore.Options{})
	if err != nil {
		panic(err)
	}
	defer store.Close() //nolint:errcheck // nothing is on disk
	app := fiber.New()
	sessions, err := fibersession.New(store, fibersession.Config{})
	if err != nil {
		panic(err)
	}
	app.Use(sessions)
	app.Get("/visits", func(c *fiber.Ctx) error {
		if err := coatcheck.Update(fibersession.Get(c), "visits", func(n int) int { return n + 1 }); err != nil {
			return err
		}
		n, err := coatcheck.Get[int](fibersession.Get(c), "visits")
		if err != nil {
			return err
		}
		return c.SendString(fmt.Sprint(n))
	})

	cookie := ""
	for range 3 {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://localhost/visits", http.NoBody)
		if err != nil {
			panic(err)
		}
		req.Header.Set("Cookie", cookie)
		resp, err := app.Test(req, -1) // without a timeout
		if err != nil {
			panic(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			panic(err)
		}
		_ = resp.Body.Close() // it was read
		for _, c := range resp.Cookies() {
			cookie = c.Name + "=" + c.Value
		}
		fmt.Println(string(body))
	}
	// Output:
	// 1
	// 2
	// 3
}
