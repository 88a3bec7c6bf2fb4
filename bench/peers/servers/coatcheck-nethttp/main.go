// coatcheck's middleware for net/http, with the memory store or Redis. It sets the headers that coatcheck's server sets, so that
// GET /auth/me has the same bytes as the ceiling of net/http.
package main

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/bench/peers/internal/peer"
	"github.com/coatcheck/coatcheck/httpsession"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/shardstore"
)

func main() {
	store, err := newStore()
	peer.Must(err)
	middleware, err := httpsession.New(store, httpsession.Config{Cookie: httpsession.Cookie{Name: peer.CookieName, Insecure: true}})
	peer.Must(err)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /auth/login", login)
	mux.HandleFunc("GET /auth/me", writeView)
	mux.HandleFunc("POST /auth/refresh", refresh)
	mux.HandleFunc("POST /auth/logout", logout)
	peer.ServeHTTP(middleware(mux))
}

func newStore() (coatcheck.Store, error) {
	if url := peer.Redis(); url != "" {
		return redisstore.New(context.Background(), redisstore.Options{URL: url})
	}
	return shardstore.New(shardstore.Options{})
}

// headers are those of every answer of coatcheck's GET /auth/me.
var headers = peer.Answers()["GET /auth/me"].Header()

func writeView(w http.ResponseWriter, r *http.Request) {
	s := httpsession.Get(r)
	refreshed, _ := coatcheck.Get[bool](s, "refreshed") // false where there is none
	for name, values := range headers {
		w.Header()[name] = values
	}
	body, err := json.Marshal(peer.NewView(s.UserID(), s.ID().String(), refreshed))
	peer.Must(err)
	_, _ = w.Write(body) // the client is gone
}

func login(w http.ResponseWriter, r *http.Request) {
	var req peer.LoginRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	s := httpsession.Get(r)
	if err := s.Authenticate(req.UserID); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	commit(w, r, s)
}

func refresh(w http.ResponseWriter, r *http.Request) {
	s := httpsession.Get(r)
	if s.UserID() != "" {
		s.Rotate()
		if err := s.Insert("refreshed", true); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	commit(w, r, s)
}

// commit stores the session before the view shows its new ID.
func commit(w http.ResponseWriter, r *http.Request, s *coatcheck.Session) {
	if err := s.Commit(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	writeView(w, r)
}

func logout(w http.ResponseWriter, r *http.Request) {
	httpsession.Get(r).Destroy()
	w.WriteHeader(http.StatusNoContent)
}
