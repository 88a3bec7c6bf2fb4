package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
	"github.com/coatcheck/coatcheck/redisstore"
)

// reloader does what a HUP asks for: it reads keys, users, certificates and --sessions-not-before again, each by itself. When
// one has mistakes its previous content stays in effect, and the others are read all the same. What failed is tried again
// until it succeeds, because a HUP is sent once: the server may have had no descriptor left, or the file was half written.
type reloader struct {
	sources  []*source
	sessions sessions
	state    *rereads
	log      *slog.Logger
	now      func() time.Time
	hup      <-chan os.Signal // what run listens to

	// Users whose sessions still have to be ended are tried in rounds, each once a round.
	owed     []string      // those whose turn in this round comes; sorted
	failed   []string      // those who could not be ended in this round
	within   time.Duration // how long each of them may take in this round
	searched time.Duration // how long Redis looked through its keys in this round
	due      time.Time     // when endOwed is to be called again
}

// source is a credentials.Source with what became of it.
type source struct {
	credentials.Source

	failure string    // why it could not be read; empty: it could
	tried   time.Time // when it was last read
	print   string    // fingerprint of its files
	since   time.Time // since when the files have this fingerprint, as far as is known
}

// sessions is the part of *server.Server that a re-read acts on.
type sessions interface {
	EndUser(ctx context.Context, user string) error
	SetNotBefore(t time.Time)
}

const (
	// endUserSoon bounds how long ending one user's sessions may take in the first round. A store that has to look through all of
	// its keys may need longer, but it ends first what it finds at once, and so it does for every user within this time.
	endUserSoon = 5 * time.Second
	// endUserWithin bounds it in later rounds.
	endUserWithin = redisstore.EndUserWithin
	// turnWithin is how long the server goes on with the next user before it looks what else there is to do. A HUP waits for the end of
	// one user's sessions only, which in later rounds may take endUserWithin.
	turnWithin = 10 * time.Second
	// owedEvery is how long the server waits at least between two rounds, and maxOwedEvery how long at most; otherwise as long as
	// Redis looked through its keys in the first of them, so that it does not do that all the time.
	owedEvery    = 5 * time.Second
	maxOwedEvery = time.Minute
	// retryEvery is how long the server waits before it reads a source again that could not be read.
	retryEvery = 10 * time.Second
	// unchangedFor is how long the files of that source must have been left alone by then: somebody may be writing them.
	unchangedFor = 2 * time.Second
	// lookEvery is how often the server checks whether one of these times has come.
	lookEvery = time.Second
)

// newReloader returns a reloader of the sources and of --sessions-not-before, which stands in configFile, if anywhere that can
// change.
func newReloader(sources []credentials.Source, notBefore func() (time.Time, error), configFile string, s sessions, state *rereads, log *slog.Logger) *reloader {
	r := &reloader{sessions: s, state: state, log: log, now: time.Now}
	own := credentials.Source{Name: "sessions-not-before", Read: func() ([]string, error) {
		t, err := notBefore()
		if err == nil {
			s.SetNotBefore(t)
		}
		return nil, err
	}}
	if configFile != "" {
		own.Files = []string{configFile}
	}
	// It comes first, because "log everybody out" must wait for nothing, such as a store that ends no sessions.
	for _, of := range slices.Concat([]credentials.Source{own}, sources) {
		r.sources = append(r.sources, &source{Source: of})
		state.add(of.Name)
	}
	return r
}

// run does what is asked of a reloader until ctx ends, and says when it acts on a HUP.
func (r *reloader) run(ctx context.Context, hup <-chan os.Signal, began, done func()) {
	r.hup = hup
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			began()
			r.reload()
			done()
		case <-look.C:
			r.retry()
		}
	}
}

// reload reads all sources.
func (r *reloader) reload() {
	failed := 0
	for _, s := range r.sources {
		s.failure = "" // a HUP is answered in the log, also with what was said before
		if !r.read(s) {
			failed++
		}
	}
	r.endOwed()
	if failed == 0 {
		r.log.Info("re-read keys, users, certificates and --sessions-not-before")
	}
}

// retry reads the sources again that could not be read, and ends the sessions that could not be ended, if it is time for that.
func (r *reloader) retry() {
	now := r.now()
	for _, s := range r.sources {
		r.notice(s, now)
		if s.failure == "" {
			continue
		}
		s.observe(now)
		if now.Sub(s.tried) >= retryEvery && now.Sub(s.since) >= unchangedFor && r.read(s) {
			r.log.Info("re-read, which had failed before", "setting", s.Name)
		}
	}
	if len(r.owed)+len(r.failed) > 0 && !now.Before(r.due) {
		r.endOwed()
	}
}

// notice takes note of what happened to a source that is also read by itself, which says so in the log.
func (r *reloader) notice(s *source, now time.Time) {
	if s.Failure == nil {
		return
	}
	switch err := s.Failure(); {
	case err != nil && s.failure == "":
		s.failure, s.tried = err.Error(), now
		r.state.failed(s.Name)
	case err == nil && s.failure != "":
		s.failure = ""
		r.state.succeeded(s.Name)
	}
}

// read reads a source, and reports whether it could.
func (r *reloader) read(s *source) bool {
	s.tried = r.now()
	s.observe(s.tried) // before it is read: what changes from now on is looked at again
	users, err := s.Read()
	if len(users) > 0 {
		r.beginRound(slices.Concat(r.owed, r.failed, users), endUserSoon)
	}
	if err != nil {
		if err.Error() != s.failure {
			r.log.Error("not re-read; what was read before stays in effect, and it is tried again", "setting", s.Name, "error", err)
		}
		s.failure = err.Error()
		r.state.failed(s.Name)
		return false
	}
	s.failure = ""
	r.state.succeeded(s.Name)
	return true
}

// observe notes whether the source's files have changed.
func (s *source) observe(now time.Time) {
	var prints []string
	for _, file := range s.Files {
		prints = append(prints, fingerprint(file))
	}
	if p := strings.Join(prints, "\n"); p != s.print || s.since.IsZero() {
		s.print, s.since = p, now
	}
}

// fingerprint changes when a file does. It needs no descriptor.
func fingerprint(file string) string {
	info, err := os.Stat(file)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(info.ModTime().UnixNano(), info.Size(), info.Mode())
}

// beginRound lets the turn of each of these users come.
func (r *reloader) beginRound(users []string, within time.Duration) {
	slices.Sort(users)
	r.owed, r.failed = slices.Compact(users), nil
	r.within, r.searched, r.due = within, 0, time.Time{}
}

// endOwed ends the sessions of the users whose accounts have changed, and whose turn comes. One whose sessions could not be ended
// keeps nobody else's from being ended: the store may fail for that one only, as where a part of a Cluster is down.
func (r *reloader) endOwed() {
	if len(r.owed) == 0 {
		r.beginRound(r.failed, endUserWithin)
	}
	var failure error
	began := r.now()
	for len(r.owed) > 0 && r.now().Sub(began) < turnWithin && len(r.hup) == 0 {
		user, asked := r.owed[0], r.now()
		r.owed = r.owed[1:]
		ctx, cancel := context.WithTimeout(context.Background(), r.within)
		err := r.sessions.EndUser(ctx, user)
		cancel()
		if took := r.now().Sub(asked); took >= endUserSoon {
			r.searched += took
		}
		if err != nil {
			r.failed = append(r.failed, user)
			failure = err
		}
	}
	r.due = r.now()
	if failure != nil {
		r.log.Error("the sessions of users whose accounts have changed could not be ended; it is tried again", "user", r.failed[len(r.failed)-1],
			"users", len(r.failed)+len(r.owed), "error", failure)
	}
	if len(r.owed) == 0 {
		r.due = r.due.Add(min(max(owedEvery, r.searched), maxOwedEvery))
	}
}
