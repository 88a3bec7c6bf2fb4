// coatcheck's middleware for net/http, with the memory store or Redis. It sets the headers that coatcheck's server sets, so that
// GET /auth/me has the same bytes as the ceiling of net/http.
package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

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
var headers = func() (lines []line) {
	for name, values := range peer.Answers()["GET /auth/me"].Header() {
		lines = append(lines, line{name, values})
	}
	return lines
}()

type line struct {
	name   string
	values []string
}

// writeView appends the view to a buffer on the stack, as coatcheck's server does; the users of this program need no escapes.
func writeView(w http.ResponseWriter, r *http.Request) {
	s := httpsession.Get(r)
	header := w.Header()
	for _, l := range headers {
		header[l.name] = l.values
	}
	var space [256]byte
	b := append(space[:0], `{"authenticated":true,"user_id":"`...)
	b = append(b, s.RawUserID()...)
	b = append(b, `","refreshed":`...)
	refreshed, _ := coatcheck.Get[bool](s, "refreshed") // false where there is none
	b = strconv.AppendBool(b, refreshed)
	b = append(b, `,"session_id":"`...)
	b, _ = s.ID().AppendText(b) // never fails
	b = append(b, `"}`...)
	if len(s.RawUserID()) == 0 {
		b = append(b[:0], `{"authenticated":false,"user_id":null,"refreshed":false,"session_id":null}`...)
	}
	_, _ = w.Write(b) // the client is gone
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
