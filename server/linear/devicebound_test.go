package linear

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/dbsctest"
)

// devices are what the clients of a round know of sessions that are, or may be, bound to their device. All share one device,
// so that they prove for each other, with challenges that are current or have been.
type devices struct {
	key *dbsctest.Device

	mu    sync.Mutex
	known []*named // guarded by mu
}

// named is a session by its name, with every challenge of it that was seen.
type named struct {
	name, handle string
	challenges   []string // guarded by devices.mu
}

func (d *devices) learn(challenge string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name, _, _ := strings.Cut(challenge, ".")
	for _, n := range d.known {
		if n.name == name {
			n.challenges = append(n.challenges, challenge)
			return
		}
	}
	if key, ok := coatcheck.ParseKey([]byte(name)); ok {
		d.known = append(d.known, &named{name: name, handle: key.Handle().String(), challenges: []string{challenge}})
	}
}

// pick returns a session, mostly one of the newest, and a challenge of it, mostly the newest; nil if no login has offered one.
func (d *devices) pick() (n *named, challenge string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.known) == 0 {
		return nil, ""
	}
	n = d.known[len(d.known)-1-rand.IntN(min(len(d.known), 3))]
	i := len(n.challenges) - 1
	if rand.IntN(4) == 0 {
		i = rand.IntN(len(n.challenges))
	}
	return n, n.challenges[i]
}

// challengeOf returns the challenge in the answer's headers, "" for none.
func challengeOf(h http.Header) string {
	text := h.Get("Secure-Session-Challenge")
	if text == "" {
		_, text, _ = strings.Cut(h.Get("Secure-Session-Registration"), "challenge=")
	}
	text, _, _ = strings.Cut(strings.TrimPrefix(text, `"`), `"`)
	return text
}

// prove sends a registration, or a refresh, without the session's cookie.
func (c *client) prove(at node, register bool) error {
	n, challenge := c.round.devices.pick()
	if n == nil {
		return nil
	}
	k, path, proof := kindProve, "/auth/dbsc/refresh", c.round.devices.key.Refresh
	if register {
		k, path, proof = kindBind, "/auth/dbsc/register", c.round.devices.key.Registration
	}
	x, err := c.send("POST", at.public+path, token{handle: n.handle}, "", map[string]string{
		"Cookie": cookieName + "-name=" + n.name, "Sec-Secure-Session-Id": n.name, "Secure-Session-Response": proof(challenge),
	})
	if err != nil {
		return err
	}
	c.record(x, input{kind: k, challenge: challenge}, output{challenge: x.challenge})
	return nil
}

// device are the steps of a device: it binds a session that a login has offered to bind, or proves its key.
func (r rules) device(s *state, in input, out output) []*state {
	sess := s.sessions[in.handle]
	accepted, refusal := sess.accepts(in)
	switch {
	case out.unknown():
		out.to, out.challenge = "?"+strconv.Itoa(in.op), "?"+strconv.Itoa(in.op)
		if !accepted {
			return []*state{s}
		}
		return []*state{s, rotatedByProof(s, in, out)}
	case out.status == 200:
		if !accepted || out.handle != in.handle {
			return nil
		}
		return []*state{rotatedByProof(s, in, out)}
	case accepted || out.status != refusal:
		return nil
	case out.status == 403:
		if sess.next != out.challenge && !isUnknown(sess.next) {
			return nil
		}
		return []*state{s.with(in.handle, func(sess *session) { sess.next = out.challenge })}
	default:
		return []*state{s}
	}
}

// accepts reports whether a proof of this challenge is the right one, and else the status of its refusal.
func (s *session) accepts(in input) (accepted bool, refusal int) {
	switch {
	case in.kind == kindProve && (s == nil || !s.bound):
		return false, 404
	case in.kind == kindProve:
		return s.next == in.challenge, 403
	case s == nil:
		return false, 400
	case !s.bound:
		return s.next == in.challenge, 400
	case s.used:
		return false, 409
	default: // the answer may have been lost
		return s.boundWith == in.challenge, 400
	}
}

// rotatedByProof is the state after a proof: the token that the client may have stays, which is the one before where the
// current one was never presented.
func rotatedByProof(s *state, in input, out output) *state {
	return s.with(in.handle, func(sess *session) {
		if !sess.open || sess.prev == "" {
			sess.prev = sess.cur
		}
		sess.cur, sess.open, sess.rotated, sess.next = out.to, true, in.at, out.challenge
		sess.bound, sess.used = true, in.kind == kindProve
		if in.kind == kindBind {
			sess.boundWith = in.challenge
		}
	})
}

// describeDevice is what a picture shows of a device's step.
func describeDevice(in input, out output) string {
	if in.challenge == "" && out.challenge == "" {
		return ""
	}
	last := func(c string) string { return c[max(0, len(c)-6):] }
	return fmt.Sprintf(" challenge %s, then %s", last(in.challenge), last(out.challenge))
}
