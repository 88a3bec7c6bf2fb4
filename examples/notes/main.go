// Command notes is a small Fiber application with sessions of its own: each user keeps a list of notes, logged in or
// not, and the list survives the login. It shows the middleware, typed values, and that choosing the store takes one line.
//
//	go run ./examples/notes                                  # sessions in memory
//	go run ./examples/notes -store redis://127.0.0.1:6379    # sessions in Redis
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/fibersession"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/shardstore"
)

// notebook is the value that a session keeps under the name "notebook".
type notebook struct {
	Notes   []string  `json:"notes"`
	Changed time.Time `json:"changed"`
}

func main() {
	url := flag.String("store", "memory", "memory, or the URL of a Redis")
	listen := flag.String("listen", "127.0.0.1:8080", "where to listen")
	flag.Parse()
	store, err := openStore(context.Background(), *url)
	if err != nil {
		log.Fatal(err)
	}
	app, err := newApp(store)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(app.Listen(*listen))
}

// openStore is the only code that depends on the kind of store.
func openStore(ctx context.Context, url string) (coatcheck.Store, error) {
	if url == "memory" {
		return shardstore.New(shardstore.Options{})
	}
	return redisstore.New(ctx, redisstore.Options{URL: url, Prefix: "notes:"})
}

func newApp(store coatcheck.Store) (*fiber.App, error) {
	sessions, err := fibersession.New(store, fibersession.Config{
		// Insecure is for plain http on loopback. Behind https leave it out: the default is a __Host- cookie with Secure.
		Cookie: fibersession.Cookie{Name: "notes", Insecure: true},
		Policy: coatcheck.Policy{TTL: time.Hour},
	})
	if err != nil {
		return nil, err
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Use(sessions)
	app.Get("/", show)
	app.Post("/notes", add)
	app.Post("/login", logIn)
	app.Post("/logout", logOut)
	return app, nil
}

// show answers everybody. Reading stores nothing: a browser that sends no note costs no memory.
func show(c *fiber.Ctx) error {
	session := fibersession.Get(c)
	book, err := coatcheck.Get[notebook](session, "notebook")
	if err != nil && !errors.Is(err, coatcheck.ErrNoValue) {
		return err
	}
	return c.JSON(fiber.Map{"user": session.UserID(), "notes": book.Notes})
}

// add loses no note to a parallel request: Update runs again on the values that the other request stored.
func add(c *fiber.Ctx) error {
	note := string(c.Body()) // a copy, because c.Body is only valid within the handler
	err := coatcheck.Update(fibersession.Get(c), "notebook", func(b notebook) notebook {
		b.Notes, b.Changed = append(b.Notes, note), time.Now()
		return b
	})
	if errors.Is(err, coatcheck.ErrTooLarge) {
		return fiber.NewError(fiber.StatusRequestEntityTooLarge, "the notebook is full")
	}
	if err != nil {
		return err
	}
	return show(c)
}

// logIn believes the name; a real application checks a password between BeginLogin and Authenticate. The notes of the
// anonymous session become the user's, under a new token.
func logIn(c *fiber.Ctx) error {
	session, user := fibersession.Get(c), c.FormValue("user")
	if err := session.BeginLogin(c.UserContext(), user); err != nil {
		return fiber.ErrServiceUnavailable
	}
	if err := session.Authenticate(user); err != nil {
		return fiber.NewError(fiber.StatusUnprocessableEntity, "who?")
	}
	return show(c)
}

func logOut(c *fiber.Ctx) error {
	fibersession.Get(c).Destroy()
	return c.SendStatus(fiber.StatusNoContent)
}
