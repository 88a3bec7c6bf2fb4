// scs on net/http, with its default lifetime and no IdleTimeout, which would write on every read.
package main

import (
	"encoding/json"
	"net/http"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/bench/peers/internal/peer"
)

var sessions = scs.New()

func main() {
	sessions.Cookie.Name = peer.CookieName
	if url := peer.Redis(); url != "" {
		opt, err := redis.ParseURL(url)
		peer.Must(err)
		sessions.Store = goredisstore.New(redis.NewClient(opt))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /auth/login", login)
	mux.HandleFunc("GET /auth/me", me)
	mux.HandleFunc("POST /auth/refresh", refresh)
	mux.HandleFunc("POST /auth/logout", logout)
	peer.ServeHTTP(sessions.LoadAndSave(mux))
}

func writeView(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	v := peer.NewView(sessions.GetString(ctx, "user_id"), sessions.Token(ctx), sessions.GetBool(ctx, "refreshed"))
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client is gone
}

func fail(w http.ResponseWriter, err error) {
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

func login(w http.ResponseWriter, r *http.Request) {
	var req peer.LoginRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	if err := sessions.RenewToken(r.Context()); err != nil {
		fail(w, err)
		return
	}
	sessions.Put(r.Context(), "user_id", req.UserID)
	sessions.Put(r.Context(), "refreshed", false)
	writeView(w, r)
}

func me(w http.ResponseWriter, r *http.Request) { writeView(w, r) }

func refresh(w http.ResponseWriter, r *http.Request) {
	if sessions.Exists(r.Context(), "user_id") {
		if err := sessions.RenewToken(r.Context()); err != nil {
			fail(w, err)
			return
		}
		sessions.Put(r.Context(), "refreshed", true)
	}
	writeView(w, r)
}

func logout(w http.ResponseWriter, r *http.Request) {
	if err := sessions.Destroy(r.Context()); err != nil {
		fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
