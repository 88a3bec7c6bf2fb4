// Command scs is an application that had sessions of scs (alexedwards/scs) in Redis, after the change: new sessions are coatcheck's, and
// those that live in the old store are carried over. docs/migrating.md shows carry.go.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"net/http"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/httpsession"
	"github.com/coatcheck/coatcheck/redisstore"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "where to listen")
	url := flag.String("redis", "redis://127.0.0.1:6379", "the Redis that has the old sessions, and the new ones")
	flag.Parse()
	options, err := redis.ParseURL(*url)
	if err != nil {
		log.Fatal(err)
	}
	app, err := newApp(context.Background(), *url, redis.NewClient(options))
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(*listen, app)) //nolint:gosec // an example
}

// newApp returns the application. The client is the old sessions', and url the new ones'.
func newApp(ctx context.Context, url string, client *redis.Client) (http.Handler, error) {
	old := scs.New() // with the names and times that the old application gave it
	old.Store = goredisstore.New(client)

	store, err := redisstore.New(ctx, redisstore.Options{URL: url})
	if err != nil {
		return nil, err
	}
	// Insecure is for plain http on loopback. Behind https leave it out: the default is a __Host- cookie with Secure.
	wrap, err := httpsession.New(store, httpsession.Config{Cookie: httpsession.Cookie{Name: "sid", Insecure: true}})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", show)
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		httpsession.Get(r).Destroy()
		w.WriteHeader(http.StatusNoContent)
	})
	return wrap(carrier{old: old, redis: client}.wrap(mux)), nil
}

// show says who the user is, and how often the user was here.
func show(w http.ResponseWriter, r *http.Request) {
	session := httpsession.Get(r)
	visits := 0
	if session.UserID() != "" {
		if err := coatcheck.Update(session, "visits", func(n int) int { visits = n + 1; return visits }); err != nil {
			http.Error(w, "not counted", http.StatusInternalServerError)
			return
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"user": session.UserID(), "visits": visits}) // the client may be gone
}
