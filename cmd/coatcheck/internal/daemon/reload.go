package daemon

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// reloader does what a HUP asks for: it reads keys, users, certificates and --sessions-not-before again, each by itself. When
// a file has mistakes its previous content stays in effect, and the other files are read all the same.
type reloader struct {
	files     []func() (users []string, err error) // each re-reads a file, and returns the users whose sessions end with it
	notBefore func() (time.Time, error)
	sessions  sessions
	log       *slog.Logger

	owed []string // users whose sessions still have to be ended; sorted
}

// sessions is the part of *server.Server that a re-read acts on.
type sessions interface {
	EndUser(ctx context.Context, user string) error
	SetNotBefore(t time.Time)
}

const (
	// endUserWithin bounds how long ending one user's sessions may take.
	endUserWithin = 5 * time.Second
	// owedEvery is how long the server waits before it calls endOwed again.
	owedEvery = 5 * time.Second
)

func (r *reloader) reload() {
	failed := 0
	for _, reload := range r.files {
		users, err := reload()
		if err != nil {
			r.log.Error("not re-read", "error", err)
			failed++
		}
		r.owed = append(r.owed, users...)
	}
	slices.Sort(r.owed)
	r.owed = slices.Compact(r.owed)
	r.endOwed()
	if t, err := r.notBefore(); err != nil {
		r.log.Error("the configuration was not re-read", "error", err)
		failed++
	} else {
		r.sessions.SetNotBefore(t)
	}
	if failed == 0 {
		r.log.Info("re-read keys, users, certificates and --sessions-not-before")
	}
}

// endOwed ends the sessions of the users whose accounts have changed. It stops at the first failure, because with a store
// that is gone each user would take the store's timeout, and signals are not handled meanwhile; the others stay owed.
func (r *reloader) endOwed() {
	for len(r.owed) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), endUserWithin)
		err := r.sessions.EndUser(ctx, r.owed[0])
		cancel()
		if err != nil {
			r.log.Error("the sessions of users whose accounts have changed could not be ended; it is tried again", "user", r.owed[0], "users", len(r.owed),
				"error", err)
			return
		}
		r.owed = r.owed[1:]
	}
}
