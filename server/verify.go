package server

import (
	"bytes"

	"github.com/gofiber/fiber/v2"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/percent"
	"github.com/coatcheck/coatcheck/server/internal/remote"
)

// verify tells a reverse proxy whether the request that the proxy holds has a live session of a user, and with a rule in the
// query, whether the user is in one of its groups. The verdict depends on the session and the rule alone: no header, method or
// body changes it; with --verify-login-url a browser gets a refusal as 302. verify renews the session, and never sets or clears
// a cookie, which most proxies would drop.
func (s *Server) verify(c *fiber.Ctx, r *coatcheck.Request) error {
	ctx := c.Context()
	groups, ok := readRule(ctx.URI().QueryString())
	if !ok {
		return problemBadRule
	}
	var space [1024]byte
	claims := r.EncodedClaims()
	shown := s.shownUser(space[:0], r, claims)
	if len(shown) == 0 {
		if s.loginPage != nil && s.loginPage.redirect(ctx) {
			return nil
		}
		return problemUnauthenticated
	}
	if groups != nil && !inOneOf(groups, claims.Groups) {
		return problemGroupRequired
	}
	h := &ctx.Response.Header
	// All of them, always: a proxy that hands on what it gets then never leaves a client's own line of that name in place.
	h.SetCanonical(headerRemoteUser, shown)
	h.SetCanonical(headerRemoteName, claims.Name)
	h.SetCanonical(headerRemoteEmail, claims.Email)
	h.SetCanonical(headerRemoteGroups, claims.Groups)
	id, _ := r.ID().AppendText(space[:0]) // never fails
	h.SetCanonical(headerRemoteSession, id)
	return nil
}

// shownUser returns what Remote-User shows; b may be its space. It is empty for an anonymous request, and for a session whose login has
// not checked this claim: an address may be anybody's then.
func (s *Server) shownUser(b []byte, r *coatcheck.Request, claims coatcheck.EncodedClaims) []byte {
	user := r.RawUserID()
	if len(user) == 0 || s.remoteUser == "" {
		return percent.Append(b, user)
	}
	var space [noteSpace]byte
	if !bytes.Equal(noted(space[:0], r, checkedValue), s.checked[:]) {
		return nil
	}
	return remote.Claim(b, claims, s.remoteUser)
}

// maxRule is the most groups of a rule.
const maxRule = 16

// readRule returns the groups of verify's query, which is empty or group=LIST and nothing else: a client whose words a proxy
// appends must not be able to add a group, or to turn a rule into none. The list is split at its commas before it is decoded.
// It returns the list as it stands in the query; nil is no rule.
func readRule(query []byte) (list []byte, ok bool) {
	if len(query) == 0 {
		return nil, true
	}
	list, ok = bytes.CutPrefix(query, []byte("group="))
	if !ok || bytes.IndexByte(list, '&') >= 0 {
		return nil, false
	}
	n := 0
	for rest, more := list, true; more; n++ {
		var one []byte
		one, rest, more = bytes.Cut(rest, []byte{','})
		if len(one) == 0 || n == maxRule || !percent.Valid(one) {
			return nil, false
		}
	}
	return list, true
}

// inOneOf reports whether one of the groups is in the list that readRule returned.
func inOneOf(list, groups []byte) bool {
	for len(groups) > 0 {
		var group []byte
		group, groups, _ = bytes.Cut(groups, []byte{','})
		for rest, more := list, true; more; {
			var one []byte
			if one, rest, more = bytes.Cut(rest, []byte{','}); percent.Same(one, group) {
				return true
			}
		}
	}
	return false
}

// noFragment refuses a request target with a #: no valid target has one, servers disagree about the path of such a target, and a user ID
// that was not encoded would be cut to somebody else's.
func noFragment(refused *problem) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if bytes.IndexByte(c.Context().RequestURI(), '#') >= 0 {
			return refused
		}
		return c.Next()
	}
}

var (
	headerRemoteUser    = []byte("Remote-User")
	headerRemoteName    = []byte("Remote-Name")
	headerRemoteEmail   = []byte("Remote-Email")
	headerRemoteGroups  = []byte("Remote-Groups")
	headerRemoteSession = []byte("Remote-Session-Id")
)
