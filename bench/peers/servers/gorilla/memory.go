package main

import (
	"encoding/base32"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/boj/redistore"
	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
)

// memory keeps sessions in a map. gorilla/sessions has a store for files and none for memory; this one does what boj/redistore
// does, signed ID in the cookie and gob in the store, with a map in the place of Redis.
type memory struct {
	codecs     []securecookie.Codec
	options    sessions.Options
	serializer redistore.GobSerializer

	mu      sync.RWMutex
	records map[string]record // guarded by mu
}

type record struct {
	data   []byte
	expiry time.Time
}

func newMemory(key []byte, options sessions.Options) *memory {
	return &memory{codecs: securecookie.CodecsFromPairs(key), options: options, records: map[string]record{}}
}

// Get returns the request's session of that name, the same one every time.
func (m *memory) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(m, name)
}

// New reads the session that the cookie names, or returns an empty one.
func (m *memory) New(r *http.Request, name string) (*sessions.Session, error) {
	s := sessions.NewSession(m, name)
	options := m.options
	s.Options, s.IsNew = &options, true
	c, err := r.Cookie(name)
	if err != nil {
		return s, nil //nolint:nilerr // no cookie is an empty session
	}
	if err := securecookie.DecodeMulti(name, c.Value, &s.ID, m.codecs...); err != nil {
		return s, err
	}
	m.mu.RLock()
	rec, ok := m.records[s.ID]
	m.mu.RUnlock()
	if !ok || time.Now().After(rec.expiry) {
		return s, nil
	}
	s.IsNew = false
	return s, m.serializer.Deserialize(rec.data, s)
}

// Save stores the session, or deletes it if its age is negative, and sets or clears the cookie.
func (m *memory) Save(_ *http.Request, w http.ResponseWriter, s *sessions.Session) error {
	if s.Options.MaxAge <= 0 {
		m.mu.Lock()
		delete(m.records, s.ID)
		m.mu.Unlock()
		http.SetCookie(w, sessions.NewCookie(s.Name(), "", s.Options))
		return nil
	}
	if s.ID == "" {
		s.ID = strings.TrimRight(base32.StdEncoding.EncodeToString(securecookie.GenerateRandomKey(32)), "=")
	}
	data, err := m.serializer.Serialize(s)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.records[s.ID] = record{data, time.Now().Add(time.Duration(s.Options.MaxAge) * time.Second)}
	m.mu.Unlock()
	encoded, err := securecookie.EncodeMulti(s.Name(), s.ID, m.codecs...)
	if err != nil {
		return err
	}
	http.SetCookie(w, sessions.NewCookie(s.Name(), encoded, s.Options))
	return nil
}
