package coatcheck

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Request is a middleware's state of one request: it opens the request's session, lends it to handlers, finishes it and
// determines the response's cookie. The zero Request is ready for Manager.Open, and again after Release: keep Requests in a
// pool. The embedded Session belongs to the request and is reused with it; the middleware's own code may use it, handlers of
// an application get what Lend returns. Not safe for concurrent use.
type Request struct {
	Session

	m      *Manager
	now    time.Time
	client Client
	agent  []byte // a copy of the client's, cut to MaxUserAgent: a handler may change the request's header

	rec Record // as it was loaded or last committed
	held
	asked

	others   []target // sessions that the request also carried a token of
	former   []target // sessions that one of the request's tokens opened before: it was rotated out (reuse), is too old, or has expired
	unopened []Token  // tokens beyond MaxCandidates, which only a login or a logout looks up

	watching bool          // the request is to watch its session: it renews nothing
	sent     bool          // the response's header has been sent
	tooLate  bool          // a rotation was asked for after that
	offer    bool          // a login of this request offers to bind its session to a device
	offered  bool          // a login did
	lifetime time.Duration // of the session that a login begins; zero: the policy's

	marked   bool
	mark     Mark
	markOf   string
	unmarked error         // why the last BeginLogin failed: no login of this request succeeds
	markedAt time.Duration // by Manager.sinceBoot
	readAt   time.Time     // by Policy.Now, which the store judges the mark by; without Go's reading of the process's clock
	beganAt  moment        // when a login that reads no mark began

	failed   error  // of the commit that failed: no other is tried, and Finish returns it if the handler asks for anything afterwards
	report   Report // written by way of changeReport
	eventful bool   // changeReport was called: report may say something

	next, cur Record // buffers of a commit
	extension []byte // of next, where it differs from that of rec
	scratch   []byte // backs values once they were changed

	storing  atomic.Int32 // calls of the store by handlers that are under way
	disowned atomic.Bool  // no handler's call may write any more
	inUse    bool         // a session that was lent was in such a call when it was detached

	lent  *Session  // what Lend returned for this request
	spare []Session // sessions that have not been lent yet
}

// held is the session that a request has, and what is known of the client's cookie.
type held struct {
	live      bool         // rec is the session; else there is none
	token     Token        // opens it
	presented ID           // of the request's token, or of the last one that it made
	values    []byte       // what readers see: rec's with changes applied
	first     bool         // the client presented the current token, and the record did not say so yet: see firstUse
	issued    bool         // the token was made in this request: the client does not have it yet
	action    CookieAction // as of the last commit

	// Without a session:
	stale bool // the client's cookie can only be a left-over
	lost  bool // this request must not replace the client's cookie: values that the handler sets are dropped
}

// asked is what the handler asked for and no commit has written yet: each commit clears it.
type asked struct {
	changes  []change
	cleared  bool
	rotation rotation
	fresh    Token // the token that the rotation or the login leads to, once made
	login    bool
	user     string // of the login
	claims   []byte // of the login, as the session keeps them
	destroy  bool
	ending   []target // what a logout ends
}

// clearAsked leaves nothing but the buffers.
func (a *asked) clearAsked() {
	changes, ending := a.changes[:0], a.ending[:0]
	*a = asked{}
	a.changes, a.ending = changes, ending
}

// spareSessions is how many sessions are allocated at a time. A session that was lent is never lent again, so that a handler
// that keeps one beyond its request cannot reach another request's session; in one block they cost a request almost nothing.
const spareSessions = 64

type rotation int

const (
	noRotation rotation = iota
	gracefully          // the old token stays admitted for a grace
	atOnce              // the old token is dead
)

// CookieAction is what a request's response must do to the session cookie.
type CookieAction int

const (
	// KeepCookie means no Set-Cookie.
	KeepCookie CookieAction = iota
	// SetCookie means that the response carries Request.Token.
	SetCookie
	// ClearCookie means that the response clears the cookie.
	ClearCookie
)

// Report is what happened to a session during a request, for logs and metrics.
type Report struct {
	Duplicate   bool  // several live sessions, or too many tokens: the request was anonymous
	Reused      Reuse // a rotated-out token was presented; zero Key: none
	Left        Reuse // a request to watch had a token that was rotated out, or was too old; zero Key: none
	TooOld      Reuse // a token of a bound session came too long after the device's last proof; zero Key: none
	WrongSecret int   // tokens of a known Key with a secret that was never its previous one
	Damaged     int   // records that could not be decoded
	Created     int
	Rotated     int
	Renewed     int
	Ended       int    // by Destroy
	Replaced    int    // ended by Authenticate
	Ends        []End  // one for each of Ended and Replaced, in the order in which they happened
	LimitEnded  int    // by the limit of sessions per user
	LimitUser   string // whose those are, also if the login that pushed them out was undone
	Conflicts   int    // swaps that had to be done again
	Dropped     int    // changes to a session that had ended, or no longer admitted the token
	NotNoted    int    // renewals and first uses that could not be written, and are left to the next request
	NotNotedFor error  // why the last of them could not
}

// End describes a session that ended because a request carried a token of it, by a logout or a login.
type End struct {
	ID       ID // the session's last ID
	User     string
	Replaced bool // by a login
}

// Reuse describes a token that was presented after it ceased to be admitted.
type Reuse struct {
	Key     Key
	ID      ID // the session's current ID
	User    string
	Revoked bool // the session was ended for it
}

// reset clears field by field, because a Request with its buffers is large: clearing all of it costs more than the rest of
// Open.
func (r *Request) reset(m *Manager, client Client, now time.Time) {
	r.agent = append(r.agent[:0], client.UserAgent[:min(len(client.UserAgent), MaxUserAgent)]...)
	client.UserAgent = r.agent
	r.m, r.client, r.now = m, client, now
	clear(r.changes[:cap(r.changes)])
	r.held = held{}
	r.clearAsked()
	r.watching, r.sent, r.tooLate, r.offer, r.offered, r.marked = false, false, false, false, false, false
	r.lifetime, r.failed, r.unmarked = 0, nil, nil
	if r.eventful {
		r.report, r.eventful = Report{}, false
	}
	r.others, r.former = r.others[:0], r.former[:0]
	r.dropUnopened()
	r.detach()
	r.req.Store(r)
}

// Lend returns the request's session for the handlers of an application: the same one each time, detached by Release, and never
// another request's.
func (r *Request) Lend() *Session {
	if r.lent == nil {
		if len(r.spare) == 0 {
			r.spare = make([]Session, spareSessions)
		}
		r.lent, r.spare = &r.spare[0], r.spare[1:]
		r.lent.req.Store(r.req.Load())
	}
	return r.lent
}

// Release ends the use of the request and detaches its sessions. It erases the tokens, because a pool must not hold what
// opens a session. It reports whether the request may be used again: not if a goroutine of the handler is still in a call.
func (r *Request) Release() bool {
	r.detach() // first: no other call begins, see Session.lock
	if r.inUse || r.calls.Load() != 0 {
		return false
	}
	r.m, r.held, r.fresh = nil, held{}, Token{}
	r.dropUnopened()
	return true
}

// ID is Session.ID for the middleware, which does not release the request meanwhile: it need not be counted as a call.
func (r *Request) ID() ID {
	if r.live {
		return r.rec.ID
	}
	return ID{}
}

// Key is Session.Key for the middleware.
func (r *Request) Key() Key {
	if r.live {
		return r.rec.Key
	}
	return Key{}
}

// Disown leaves the request to a handler that goes on after its answer was given without it. No call that begins from now on changes or
// persists anything of its session, which does as a detached one then. Neither Finish nor Release may follow.
func (r *Request) Disown() { r.disowned.Store(true) }

// Hold keeps the request from being used for another one, and from being finished, while a handler of the middleware's own works on it, for
// which lent was lent; false: that one has ended or is disowned. Unhold must follow true.
func (r *Request) Hold(lent *Session) bool {
	if lent.lock() == nil { // r may be somebody else's by now, lent never is
		return false
	}
	defer lent.unlock()
	r.calls.Add(1) // the request's own, because the handler may open the request anew, which detaches lent
	r.storing.Add(1)
	return true
}

// Unhold undoes Hold.
func (r *Request) Unhold() {
	r.storing.Add(-1)
	r.unlock()
}

func (r *Request) dropUnopened() {
	clear(r.unopened)
	r.unopened = r.unopened[:0]
}

func (r *Request) detach() {
	if lent := r.lent; lent != nil {
		lent.req.Store(nil)
		r.inUse = r.inUse || lent.calls.Load() != 0
		r.lent = nil
	}
	if r.req.Load() != nil { // a store that all cores must see costs ten times as much
		r.req.Store(nil)
	}
}

// Format keeps the token that the request holds out of every fmt verb, and so out of logs and panics.
func (*Request) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("coatcheck.Request")) }

// HeaderSent tells the request that the response's header is being sent: from now on no change that needs a cookie is
// possible.
func (r *Request) HeaderSent() { r.sent = true }

// Client returns the client that sent the request, as given to Open; the user agent is cut to MaxUserAgent bytes, and valid until Release.
func (r *Request) Client() Client { return r.client }

// Cookie returns what the response must do to the cookie, as of the last commit.
func (r *Request) Cookie() CookieAction {
	switch {
	case r.failed != nil && !errors.Is(r.failed, ErrRevoked):
		return KeepCookie
	case r.action == KeepCookie && r.stale:
		return ClearCookie
	default:
		return r.action
	}
}

// Token returns the token that the cookie must carry with SetCookie, and its lifetime: what is left of the absolute lifetime
// at now, and for a session that is bound to a device no more than Policy.BoundTTL after the last proof. Without a stored
// session both are zero.
func (r *Request) Token(now time.Time) (Token, time.Duration) {
	if !r.live {
		return Token{}, 0
	}
	left := r.AbsoluteLeft(now)
	if r.rec.Bound() {
		left = min(left, r.rec.ProvedAt().Add(r.m.policy.BoundTTL).Sub(now))
	}
	return r.token, left
}

// Report returns what happened so far: most often nothing, see Eventful.
func (r *Request) Report() *Report { return &r.report }

// Eventful reports whether Report may say anything; false: it is zero, and need not be read.
func (r *Request) Eventful() bool { return r.eventful }

// changeReport returns the report to be changed, and has Eventful report true.
func (r *Request) changeReport() *Report {
	r.eventful = true
	return &r.report
}

// Finish is Commit at the end of the request, with the housekeeping that is due: the renewal of a rolling session, and the
// note that a rotated token was presented. When only housekeeping fails, it is left to the next request. The error of a
// Commit that the handler called is not returned again, unless the handler has asked for anything since: that was not done, and
// the handler does not know.
func (r *Request) Finish(ctx context.Context) error {
	if r.storing.Load() != 0 {
		return errInUse
	}
	if r.failed != nil {
		if r.dirty() && !errors.Is(r.failed, errAbandoned) {
			return r.failed
		}
		return nil // the handler was told, and has answered for it
	}
	if err := r.commit(ctx); err != nil {
		return err
	}
	if r.live && (r.firstUse(&r.rec) || r.renewalDue(&r.rec)) {
		r.housekeep(ctx)
	}
	return nil
}

// rotate asks for a new token, unless its cookie could not be sent.
func (r *Request) rotate(how rotation) {
	if r.sent {
		r.tooLate = true
		return
	}
	r.rotation = how
}

// errInUse is a mistake of the application: two goroutines use one session.
var errInUse = errors.New("the answer is due while a goroutine of the handler still commits the session")

// errAbandoned is the failure of a request after Abandon.
var errAbandoned = errors.New("the request's changes were given up")

// errPanicked is the failure of a commit in which the function of an Update panicked.
var errPanicked = errors.New("the request's changes were given up: the function of an Update panicked")

// Abandon discards what the request asked for and no commit has written. No commit follows, and the carried session stays as it
// is.
func (r *Request) Abandon() {
	r.forget()
	r.failed = errAbandoned
}

// forget drops the session and all that was asked for.
func (r *Request) forget() {
	r.held = held{stale: r.stale, lost: r.lost}
	r.clearAsked()
}
