package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	mathrand "math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// visitor simulates a person with a browser. Its actions are random; what it must see follows from its earlier actions. One goroutine
// owns it.
type visitor struct {
	c      *client
	user   string // another one with each login, so that the set of users changes too
	token  string // "" without a session
	born   time.Time
	sent   time.Time // the last request that the server answered with the session
	back   time.Time // the last answer of any kind
	asleep time.Time // nothing is sent until then
}

// The states of a visitor's session, as far as the visitor can know.
const (
	dead = iota
	alive
	unsure
)

// slack is how much a time that the visitor noted may differ from the server's.
const slack = 3 * time.Second

// life tells whether the session must be dead or alive, or may be either, for a request that is sent now.
func (v *visitor) life(now time.Time) int {
	idle, age := rules.ttl, now.Sub(v.born)
	switch {
	case v.token == "" || age > rules.max+slack || now.Sub(v.back) > idle+slack:
		return dead
	case age < rules.max-slack && now.Sub(v.sent) < idle-rules.renewEvery-slack:
		return alive
	}
	return unsure
}

// check compares an answer with what it must be, and updates the visitor from it.
func (v *visitor) check(what string, want int, a answer, in bool) {
	if a.back.Sub(a.sent) > slack {
		want = unsure
	}
	switch {
	case want == alive && !in:
		v.c.tally.fault("%s: %s is signed out after %v, %v after the request before", what, v.user, a.sent.Sub(v.born), a.sent.Sub(v.sent))
	case want == dead && in:
		v.c.tally.fault("%s: %s is still signed in after %v, %v after the answer before", what, v.user, a.sent.Sub(v.born), a.sent.Sub(v.back))
	}
	v.back = a.back
	switch {
	case !in:
		v.token = ""
	case a.token != "":
		v.token, v.sent = a.token, a.sent
	default:
		v.sent = a.sent
	}
}

// deeds are the actions of visitors, with their shares of all actions.
var deeds = []struct {
	name  string
	share int
	do    func(v *visitor, ctx context.Context)
}{
	{"me", 500, (*visitor).me},
	{"verify", 150, (*visitor).verify},
	{"refresh", 90, (*visitor).refresh},
	{"refresh in two tabs", 20, (*visitor).refreshTwice},
	{"list", 40, (*visitor).list},
	{"login elsewhere", 50, (*visitor).phone},
	{"revoke elsewhere", 15, (*visitor).revokeOthers},
	{"logout", 50, (*visitor).logout},
	{"login over a session", 20, (*visitor).login},
	{"revoked by the operator", 10, (*visitor).revoked},
	{"a made-up token", 35, (*visitor).stranger},
	{"leave", 20, (*visitor).leave},
}

var deedShares = func() (n int) {
	for _, d := range deeds {
		n += d.share
	}
	return n
}()

// step does one action.
func (v *visitor) step(ctx context.Context) {
	if v.token == "" {
		v.c.tally.did("login")
		v.login(ctx)
		return
	}
	n := mathrand.IntN(deedShares) //nolint:gosec // a load, not a secret
	for _, d := range deeds {
		if n -= d.share; n < 0 {
			v.c.tally.did(d.name)
			d.do(v, ctx)
			return
		}
	}
}

func (v *visitor) login(ctx context.Context) {
	user := "soak-" + rand.Text()
	a, ok := v.c.ask(ctx, http.MethodPost, "/auth/login", v.token, `{"user_id":"`+user+`"}`)
	if !ok {
		v.token = "" // the visitor cannot know whether the carried session has ended
		return
	}
	if a.status != http.StatusOK || a.token == "" || a.view.UserID != user || a.view.Refreshed {
		v.c.tally.fault("login: %+v", a)
		return
	}
	old := v.token
	v.user, v.token, v.born, v.sent, v.back = user, a.token, a.sent, a.sent, a.back
	v.mustBeGone(ctx, "login over a session", old)
}

// mustBeGone checks that a token whose session has ended opens none.
func (v *visitor) mustBeGone(ctx context.Context, what, token string) {
	if token == "" {
		return
	}
	if a, ok := v.c.ask(ctx, http.MethodGet, "/auth/me", token, ""); ok && (a.status != http.StatusOK || a.view.Authenticated) {
		v.c.tally.fault("%s: the ended session answers %+v", what, a)
	}
}

// ask sends a request with the visitor's token, and returns what the session must be for it. Without an answer, ok is false,
// the session may have been renewed or rotated, and its token is still admitted.
func (v *visitor) ask(ctx context.Context, method, path string) (a answer, want int, ok bool) {
	want = v.life(time.Now())
	if a, ok = v.c.ask(ctx, method, path, v.token, ""); !ok {
		v.back = a.back
	}
	return a, want, ok
}

func (v *visitor) me(ctx context.Context) {
	a, want, ok := v.ask(ctx, http.MethodGet, "/auth/me")
	if !ok {
		return
	}
	if a.status != http.StatusOK || a.view.Authenticated && a.view.UserID != v.user {
		v.c.tally.fault("me: %s sees %+v", v.user, a)
	}
	v.check("me", want, a, a.view.Authenticated)
}

func (v *visitor) verify(ctx context.Context) {
	a, want, ok := v.ask(ctx, http.MethodGet, "/auth/verify")
	if !ok {
		return
	}
	if a.status != http.StatusOK && a.status != http.StatusUnauthorized || a.token != "" || a.cleared {
		v.c.tally.fault("verify: %+v", a)
	}
	v.check("verify", want, a, a.status == http.StatusOK)
}

func (v *visitor) refresh(ctx context.Context) {
	a, want, ok := v.ask(ctx, http.MethodPost, "/auth/refresh")
	if !ok {
		return
	}
	if a.status != http.StatusOK || a.view.Authenticated && (a.token == "" || !a.view.Refreshed) {
		v.c.tally.fault("refresh: %+v", a)
	}
	v.check("refresh", want, a, a.view.Authenticated)
}

// refreshTwice is two tabs that refresh with one token at once. Both stay signed in, and exactly one answer sets the new token.
func (v *visitor) refreshTwice(ctx context.Context) {
	want := v.life(time.Now())
	var answers [2]answer
	var oks [2]bool
	var tabs sync.WaitGroup
	for i := range answers {
		tabs.Go(func() { answers[i], oks[i] = v.c.ask(ctx, http.MethodPost, "/auth/refresh", v.token, "") })
	}
	tabs.Wait()
	if !oks[0] || !oks[1] {
		// One of the answers may have set a token that this visitor does not know. The visitor logs in again.
		v.token = ""
		return
	}
	first, second := answers[0], answers[1]
	if first.token == "" {
		first, second = second, first
	}
	if second.token != "" {
		// If the machine pauses, the second request may arrive more than a grace after the first, and rotate again; the answers do not
		// tell which one did. Otherwise two rotations are wrong.
		if later(first.back, second.back).Sub(earlier(first.sent, second.sent)) < slack {
			v.c.tally.fault("refresh in two tabs: both rotated: %+v and %+v", first, second)
		}
		v.token = ""
		return
	}
	if want == alive && (first.token == "" || !second.view.Authenticated) && second.back.Sub(first.sent) < slack {
		v.c.tally.fault("refresh in two tabs: %+v and %+v", first, second)
	}
	v.check("refresh in two tabs", want, first, first.view.Authenticated)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (v *visitor) list(ctx context.Context) {
	a, want, ok := v.ask(ctx, http.MethodGet, "/auth/sessions")
	if !ok {
		return
	}
	if a.status == http.StatusOK && a.sessions == 0 && want == alive && a.back.Sub(a.sent) < slack {
		v.c.tally.fault("list: nothing in it")
	}
	v.check("list", want, a, a.status == http.StatusOK)
}

// phone logs the same user in once more and abandons that session, which expires.
func (v *visitor) phone(ctx context.Context) {
	a, ok := v.c.ask(ctx, http.MethodPost, "/auth/login", "", `{"user_id":"`+v.user+`"}`)
	if ok && (a.status != http.StatusOK || a.token == "") {
		v.c.tally.fault("login elsewhere: %+v", a)
	}
}

func (v *visitor) revokeOthers(ctx context.Context) {
	a, want, ok := v.ask(ctx, http.MethodDelete, "/auth/sessions")
	if !ok {
		return
	}
	v.check("revoke elsewhere", want, a, a.status == http.StatusOK)
}

func (v *visitor) logout(ctx context.Context) {
	a, ok := v.c.ask(ctx, http.MethodPost, "/auth/logout", v.token, "")
	old := v.token
	v.token = ""
	if !ok {
		return
	}
	if a.status != http.StatusNoContent || !a.cleared {
		v.c.tally.fault("logout: %+v", a)
	}
	v.mustBeGone(ctx, "logout", old)
}

func (v *visitor) revoked(ctx context.Context) {
	a, ok := v.c.ask(ctx, http.MethodDelete, "/admin/users/"+v.user+"/sessions", "", "")
	old := v.token
	v.token = ""
	if !ok {
		return
	}
	if a.status != http.StatusOK {
		v.c.tally.fault("revoked by the operator: %+v", a)
	}
	v.mustBeGone(ctx, "revoked by the operator", old)
}

// stranger sends a token that no server has issued.
func (v *visitor) stranger(ctx context.Context) {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails
	a, ok := v.c.ask(ctx, http.MethodGet, "/auth/me", base64.RawURLEncoding.EncodeToString(raw[:]), "")
	if ok && (a.status != http.StatusOK || a.view.Authenticated || !a.cleared) {
		v.c.tally.fault("a made-up token: %+v", a)
	}
}

// leave sends nothing for longer than a session lives.
func (v *visitor) leave(context.Context) { v.asleep = time.Now().Add(rules.ttl + 2*slack) }
