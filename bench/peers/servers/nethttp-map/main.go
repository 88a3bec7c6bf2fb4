// The least that a session middleware for net/http can do, which is too little for real use: the sessions are in one map under one
// lock, never expire, have no limit and keep no values. It shows how much of the distance between bare net/http and a
// session middleware belongs to looking a session up at all.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"github.com/coatcheck/coatcheck/bench/peers/internal/peer"
)

type session struct {
	user, id  string
	refreshed bool
}

type sessionKey struct{}

var (
	mu       sync.RWMutex
	sessions = map[string]*session{} // guarded by mu: by token
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /auth/login", login)
	mux.HandleFunc("GET /auth/me", func(w http.ResponseWriter, r *http.Request) { writeView(w, of(r)) })
	mux.HandleFunc("POST /auth/refresh", refresh)
	mux.HandleFunc("POST /auth/logout", logout)
	peer.ServeHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.RLock()
		s := sessions[token(r)]
		mu.RUnlock()
		mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), sessionKey{}, s)))
	}))
}

// of returns the session of a request, nil for none.
func of(r *http.Request) *session {
	s, _ := r.Context().Value(sessionKey{}).(*session)
	return s
}

// token returns the value of the request's cookie, empty for none.
func token(r *http.Request) string {
	for _, line := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, "; ") {
			if value, ok := strings.CutPrefix(pair, peer.CookieName+"="); ok {
				return value
			}
		}
	}
	return ""
}

// begin keeps a session under a new token, and sets the cookie.
func begin(w http.ResponseWriter, s *session) {
	value := rand.Text()
	mu.Lock()
	sessions[value] = s
	mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: peer.CookieName, Value: value, Path: "/", HttpOnly: true})
	writeView(w, s)
}

func end(r *http.Request) {
	mu.Lock()
	delete(sessions, token(r))
	mu.Unlock()
}

func login(w http.ResponseWriter, r *http.Request) {
	var req peer.LoginRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	begin(w, &session{user: req.UserID, id: rand.Text()[:22]})
}

func refresh(w http.ResponseWriter, r *http.Request) {
	s := of(r)
	if s == nil {
		writeView(w, nil)
		return
	}
	end(r)
	begin(w, &session{user: s.user, id: rand.Text()[:22], refreshed: true})
}

func logout(w http.ResponseWriter, r *http.Request) {
	end(r)
	http.SetCookie(w, &http.Cookie{Name: peer.CookieName, Path: "/", MaxAge: -1})
	w.WriteHeader(http.StatusNoContent)
}

// headers are those of every answer of coatcheck's GET /auth/me.
var headers = peer.Answers()["GET /auth/me"].Header()

func writeView(w http.ResponseWriter, s *session) {
	header := w.Header()
	for name, values := range headers {
		header[name] = values
	}
	var space [256]byte
	b := peer.AppendAnonymous(space[:0])
	if s != nil {
		b = peer.AppendView(space[:0], s.user, s.id, s.refreshed)
	}
	_, _ = w.Write(b) // the client is gone
}
