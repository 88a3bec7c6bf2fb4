package oidc

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"time"
)

// attempt is a login that is on its way. The browser keeps it, encrypted, in a cookie of its own: any node can finish it, two tabs
// can log in at once, and a visitor who never comes back costs no memory.
type attempt struct {
	began  time.Time
	reauth bool
	seed   [32]byte // of state, nonce and code verifier
	hint   string   // who is expected to log in; empty: not known
	rd     string   // where the person wants to go
}

const (
	// attemptLife is how long a login may take at the provider.
	attemptLife = 10 * time.Minute
	// maxAttempts is how many logins a browser may have on their way, and maxAttemptBytes how long their cookies may be together,
	// which count into the limit of a request's headers.
	maxAttempts     = 4
	maxAttemptBytes = 4 << 10
	// maxReturn is the longest return address that is remembered: longer ones fit no Location of /auth/verify.
	maxReturn = 2 << 10
	// clockSkew is by how much the clocks of provider and server may differ.
	clockSkew = time.Minute
)

var encoding = base64.RawURLEncoding.Strict()

// derived returns a value of the attempt that cannot be guessed without its seed.
func (a *attempt) derived(what string) string {
	sum := sha256.Sum256(append([]byte("coatcheck oidc "+what+"\x00"), a.seed[:]...))
	return encoding.EncodeToString(sum[:])
}

func (a *attempt) state() string    { return a.derived("state") }
func (a *attempt) nonce() string    { return a.derived("nonce") }
func (a *attempt) verifier() string { return a.derived("verifier") }

// Cookie is a cookie that a response sets, or clears where the value is empty. It is for all paths, for an attempt's life, HttpOnly
// and SameSite=Lax, because the provider's answer is a navigation from another site; Secure where Provider.Secure says so.
type Cookie struct{ Name, Value string }

func (c Cookie) size() int { return len(c.Name) + len(c.Value) }

// CookieLife is the Max-Age of a Cookie.
const CookieLife = attemptLife

// cookieName is the name of the cookie of the attempt with this state: with the prefix by which a browser takes it from this
// origin alone, where cookies can be Secure.
func (p *Provider) cookieName(state string) string { return p.CookiePrefix() + state[:8] }

// CookiePrefix is what the names of all cookies begin with.
func (p *Provider) CookiePrefix() string {
	if p.Secure() {
		return "__Host-coatcheck-oidc-"
	}
	return "coatcheck-oidc-"
}

// seal returns the attempt's cookie.
func (p *Provider) seal(a *attempt) Cookie {
	name := p.cookieName(a.state())
	b := []byte{1, 0} // the form's version, and flags
	if a.reauth {
		b[1] = 1
	}
	b = binary.BigEndian.AppendUint64(b, uint64(a.began.UnixMilli()))
	b = append(b, a.seed[:]...)
	b = append(append(b, byte(len(a.hint)), byte(len(a.hint)>>8)), a.hint...)
	b = append(b, a.rd...)
	return Cookie{Name: name, Value: encoding.EncodeToString(p.opt.StateKeys.seal(name, b))}
}

// open returns the attempt of a cookie, if it is one and still on its way at now.
func (p *Provider) open(c Cookie, now time.Time) (*attempt, bool) {
	sealed, err := encoding.DecodeString(c.Value)
	if err != nil {
		return nil, false
	}
	const head = 2 + 8 + 32 + 2
	b, ok := p.opt.StateKeys.open(c.Name, sealed)
	if !ok || len(b) < head || b[0] != 1 {
		return nil, false
	}
	a := &attempt{reauth: b[1] == 1, began: time.UnixMilli(int64(binary.BigEndian.Uint64(b[2:])))}
	copy(a.seed[:], b[10:])
	n := int(b[42]) | int(b[43])<<8
	if len(b) < head+n {
		return nil, false
	}
	a.hint, a.rd = string(b[head:head+n]), string(b[head+n:])
	age := now.Sub(a.began)
	return a, age < attemptLife && age > -clockSkew && p.cookieName(a.state()) == c.Name
}

// begin returns the cookie of a new attempt; those of older ones that are too long beside it, without their return address; and clears for
// those that it replaces: the oldest beyond the limits, and those that hold no attempt.
func (p *Provider) begin(a *attempt, carried []Cookie, now time.Time) []Cookie {
	_, _ = rand.Read(a.seed[:]) // never fails
	a.began = now
	if len(a.rd) > maxReturn {
		a.rd = ""
	}
	fresh := p.seal(a)
	type old struct {
		Cookie
		attempt *attempt
	}
	var live []old
	out := []Cookie{fresh}
	for _, c := range carried {
		if was, ok := p.open(c, now); ok && c.Name != fresh.Name {
			live = append(live, old{c, was})
		} else if c.Name != fresh.Name {
			out = append(out, Cookie{Name: c.Name})
		}
	}
	slices.Reverse(live) // browsers send the oldest first (RFC 6265, section 5.4), which tells those of one millisecond apart
	slices.SortStableFunc(live, func(a, b old) int { return cmp.Compare(b.attempt.began.UnixNano(), a.attempt.began.UnixNano()) })
	size := fresh.size()
	for i, c := range live {
		kept := c.Cookie
		if size+kept.size() > maxAttemptBytes {
			c.attempt.rd = ""
			kept = p.seal(c.attempt)
		}
		if i >= maxAttempts-1 || size+kept.size() > maxAttemptBytes {
			kept = Cookie{Name: c.Name}
		}
		if kept != c.Cookie {
			out = append(out, kept)
		}
		size += kept.size()
	}
	return out
}

// find returns the attempt of this state among the request's cookies.
func (p *Provider) find(state string, carried []Cookie, now time.Time) (*attempt, Cookie, bool) {
	if len(state) < 8 {
		return nil, Cookie{}, false
	}
	for _, c := range carried {
		if c.Name != p.cookieName(state) {
			continue
		}
		if a, ok := p.open(c, now); ok && a.state() == state {
			return a, c, true
		}
	}
	return nil, Cookie{}, false
}
