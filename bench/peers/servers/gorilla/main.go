// gorilla/sessions on net/http with a store on the server: boj/redistore for Redis, the one in memory.go otherwise.
package main

import (
	"encoding/json"
	"net/http"

	"github.com/boj/redistore"
	"github.com/gorilla/sessions"

	"github.com/coatcheck/coatcheck/bench/peers/internal/peer"
)

var (
	store   sessions.Store
	options = sessions.Options{
		Path: "/", MaxAge: int(peer.TTL.Seconds()), HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
)

func main() {
	if url := peer.Redis(); url != "" {
		// Idle connections for as many requests as the driver has in flight.
		rs, err := redistore.NewRediStoreWithURL(256, url, peer.Secret())
		peer.Must(err)
		rs.Options = &options
		store = rs
	} else {
		store = newMemory(peer.Secret(), options)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /auth/login", login)
	mux.HandleFunc("GET /auth/me", me)
	mux.HandleFunc("POST /auth/refresh", refresh)
	mux.HandleFunc("POST /auth/logout", logout)
	peer.ServeHTTP(mux)
}

func writeView(w http.ResponseWriter, s *sessions.Session) {
	user, _ := s.Values["user_id"].(string)
	refreshed, _ := s.Values["refreshed"].(bool)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(peer.NewView(user, s.ID, refreshed)) // the client is gone
}

// get opens the request's session. A cookie of another process' key is no session, as the library has it.
func get(r *http.Request) *sessions.Session {
	s, _ := store.Get(r, peer.CookieName) // beside every error it returns a new session
	return s
}

// save writes the session and sets the cookie, or answers 500.
func save(w http.ResponseWriter, r *http.Request, s *sessions.Session) bool {
	err := s.Save(r, w)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
	return err == nil
}

// rotate gives s another ID and ends the one it had. The library has no operation for it: its stores make an ID for a session
// that has none, so the old record is deleted by saving a copy of the session with a negative age.
func rotate(w http.ResponseWriter, r *http.Request, s *sessions.Session) bool {
	if s.ID == "" {
		return true
	}
	old, opt := *s, *s.Options
	opt.MaxAge = -1
	old.Options = &opt
	if !save(w, r, &old) {
		return false
	}
	w.Header().Del("Set-Cookie")
	s.ID = ""
	return true
}

func login(w http.ResponseWriter, r *http.Request) {
	var req peer.LoginRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	s := get(r)
	if !rotate(w, r, s) {
		return
	}
	s.Values["user_id"] = req.UserID
	s.Values["refreshed"] = false
	if save(w, r, s) {
		writeView(w, s)
	}
}

func me(w http.ResponseWriter, r *http.Request) { writeView(w, get(r)) }

func refresh(w http.ResponseWriter, r *http.Request) {
	s := get(r)
	if s.Values["user_id"] != nil {
		if !rotate(w, r, s) {
			return
		}
		s.Values["refreshed"] = true
		if !save(w, r, s) {
			return
		}
	}
	writeView(w, s)
}

func logout(w http.ResponseWriter, r *http.Request) {
	s := get(r)
	s.Options.MaxAge = -1
	if save(w, r, s) {
		w.WriteHeader(http.StatusNoContent)
	}
}
