// Command shop is a small net/http application with sessions of its own: a logged-in user fills a cart. It shows the
// middleware, values that parallel requests change, messages that are shown once, forms with CSRF tokens, and that choosing
// the store takes one line.
//
//	go run ./examples/shop                                  # sessions in memory
//	go run ./examples/shop -store redis://127.0.0.1:6379    # sessions in Redis
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"html/template"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/httpsession"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/shardstore"
)

func main() {
	url := flag.String("store", "memory", "memory, or the URL of a Redis")
	listen := flag.String("listen", "127.0.0.1:8080", "where to listen")
	flag.Parse()
	store, err := openStore(context.Background(), *url)
	if err != nil {
		log.Fatal(err)
	}
	key := []byte(os.Getenv("SHOP_CSRF_KEY"))
	if len(key) == 0 { // this key is valid for one process, until it stops
		key = []byte(rand.Text() + rand.Text())
	}
	app, err := newShop(store, key)
	if err != nil {
		log.Fatal(err)
	}
	server := http.Server{Addr: *listen, Handler: app, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// openStore is the only code that depends on the kind of store.
func openStore(ctx context.Context, url string) (coatcheck.Store, error) {
	if url == "memory" {
		return shardstore.New(shardstore.Options{})
	}
	return redisstore.New(ctx, redisstore.Options{URL: url, Prefix: "shop:"})
}

func newShop(store coatcheck.Store, csrfKey []byte) (http.Handler, error) {
	sessions, err := httpsession.New(store, httpsession.Config{
		// Insecure is for plain http on loopback. Behind https leave it out: the default is a __Host- cookie with Secure.
		Cookie: httpsession.Cookie{Name: "shop", Insecure: true},
		Policy: coatcheck.Policy{TTL: time.Hour},
	})
	if err != nil {
		return nil, err
	}
	csrf, err := httpsession.NewCSRF(csrfKey)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", page(csrf))
	// Before the login there may be no session to bind a token to. A form of another site would end the session that is there, and log its
	// user in as somebody else.
	mux.Handle("POST /login", http.NewCrossOriginProtection().Handler(http.HandlerFunc(logIn)))
	mux.Handle("POST /cart", csrf.Check(http.HandlerFunc(add)))
	mux.Handle("POST /logout", csrf.Check(http.HandlerFunc(logOut)))
	return sessions(mux), nil
}

// cart is how many of each thing the user wants.
type cart map[string]int

var layout = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<title>Shop</title>
{{with .Message}}<p role="status">{{.}}</p>{{end}}
{{if .User}}
<h1>The cart of {{.User}}</h1>
<ul>{{range $thing, $n := .Cart}}<li>{{$n}} × {{$thing}}</li>{{end}}</ul>
<form method="post" action="/cart">
<input type="hidden" name="csrf_token" value="{{.Token}}">
<label>Thing <input name="thing" required></label> <button>Add</button>
</form>
<form method="post" action="/logout">
<input type="hidden" name="csrf_token" value="{{.Token}}">
<button>Log out</button>
</form>
{{else}}
<form method="post" action="/login">
<label>Name <input name="user" required></label> <button>Log in</button>
</form>
{{end}}
`))

// page answers everybody. A browser that only reads gets no cookie and costs no memory.
func page(csrf httpsession.CSRF) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		session := httpsession.Get(r)
		things, err := coatcheck.Get[cart](session, "cart")
		if err != nil && !errors.Is(err, coatcheck.ErrNoValue) {
			fail(w, err)
			return
		}
		message, err := coatcheck.Pop[string](session, "message") // shown once
		if err != nil && !errors.Is(err, coatcheck.ErrNoValue) {
			fail(w, err)
			return
		}
		w.Header().Set("Cache-Control", "no-store") // the page is about one person
		err = layout.Execute(w, struct {
			User, Message, Token string
			Cart                 cart
		}{session.UserID(), message, csrf.Token(session), things})
		if err != nil {
			log.Print(err)
		}
	}
}

// add loses nothing to a parallel request: Update runs again on the values that the other request stored.
func add(w http.ResponseWriter, r *http.Request) {
	session, thing := httpsession.Get(r), r.PostFormValue("thing")
	if session.UserID() == "" || thing == "" {
		http.Error(w, "log in, and choose a thing", http.StatusUnprocessableEntity)
		return
	}
	err := coatcheck.Update(session, "cart", func(things cart) cart {
		if things == nil {
			things = cart{}
		}
		things[thing]++
		return things
	})
	if err == nil {
		err = session.Insert("message", "One more in the cart.")
	}
	if err != nil {
		fail(w, err)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// logIn believes the name; a real application checks a password between BeginLogin and Authenticate. A new session begins,
// under a new token.
func logIn(w http.ResponseWriter, r *http.Request) {
	session, user := httpsession.Get(r), r.PostFormValue("user")
	if err := session.BeginLogin(r.Context(), user); err != nil {
		fail(w, err)
		return
	}
	if err := session.Authenticate(user); err != nil {
		fail(w, err)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func logOut(w http.ResponseWriter, r *http.Request) {
	httpsession.Get(r).Destroy()
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// fail answers for an error of a session's method.
func fail(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, coatcheck.ErrTooLarge):
		http.Error(w, "the cart is full", http.StatusRequestEntityTooLarge)
	case errors.Is(err, coatcheck.ErrUserID):
		http.Error(w, "who?", http.StatusUnprocessableEntity)
	case errors.Is(err, coatcheck.ErrUnavailable):
		http.Error(w, "try again in a moment", http.StatusServiceUnavailable)
	default:
		log.Print(err)
		http.Error(w, "that went wrong", http.StatusInternalServerError)
	}
}
