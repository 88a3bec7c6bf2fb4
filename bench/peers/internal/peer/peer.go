// Package peer is the code that the servers in Go share: where to listen, which Redis to use, the view, and the answers of the twins.
package peer

import (
	"context"
	"crypto/rand"
	"log"
	"net"
	"net/http"
	"os"
	"time"
)

// CookieName is the session cookie of the peers whose library lets them choose it.
const CookieName = "session_id"

// TTL is how long a session lives without use. It is coatcheck's default.
const TTL = 30 * time.Minute

// View is the body of login, me and refresh.
type View struct {
	Authenticated bool    `json:"authenticated"`
	UserID        *string `json:"user_id"`
	Refreshed     bool    `json:"refreshed"`
	SessionID     *string `json:"session_id"`
}

// NewView is the view of a session; user is empty for an anonymous one.
func NewView(user, id string, refreshed bool) View {
	if user == "" {
		return View{}
	}
	return View{Authenticated: true, UserID: &user, Refreshed: refreshed, SessionID: &id}
}

// LoginRequest is the body of login.
type LoginRequest struct {
	UserID string `json:"user_id"`
}

// Redis returns the URL of the Redis that holds the sessions, empty if they are to stay in memory.
func Redis() string { return os.Getenv("PEER_REDIS") }

// Listen returns the listener that the driver asked for.
func Listen() net.Listener {
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", os.Getenv("PEER_LISTEN"))
	Must(err)
	return ln
}

// ServeHTTP serves h with net/http, as bare as the other peers.
func ServeHTTP(h http.Handler) {
	srv := &http.Server{Handler: h}
	Must(srv.Serve(Listen()))
}

// Secret returns a key for signing cookies: a peer's sessions need not outlive its process.
func Secret() []byte {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		panic(err)
	}
	return key
}

// Must ends the process after an error; the driver reports which server has ended.
func Must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
