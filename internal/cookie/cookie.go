// Package cookie holds all rules about the session cookie, on bytes: its form, how it is found among the other cookies of a
// request, and the Set-Cookie lines that set and clear it (RFC 6265bis). It knows no HTTP library; the session middlewares of
// all frameworks share it.
package cookie

import (
	"bytes"
	"strconv"
	"time"

	"github.com/coatcheck/coatcheck"
)

// Cookie finds and writes the session cookie. It is made once and is safe for concurrent use.
type Cookie struct {
	name  string
	pair  []byte // "name="
	attrs string // what follows Max-Age
	clear string // the whole line that clears the cookie
}

// New returns the cookie of a valid Config, or all of the mistakes.
func New(c Config) (*Cookie, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	attrs := "; Path=" + c.Path
	if c.Domain != "" {
		attrs += "; Domain=" + c.Domain
	}
	if !c.Insecure {
		attrs += "; Secure"
	}
	if !c.ScriptAccess {
		attrs += "; HttpOnly"
	}
	attrs += "; SameSite=" + sameSite[c.SameSite]
	return &Cookie{
		name:  c.Name,
		pair:  []byte(c.Name + "="),
		attrs: attrs,
		// Expires is left out: Apache HttpClient 4.5 refuses a cookie whose date it cannot read in the format that it expects.
		clear: c.Name + "=; Max-Age=0" + attrs,
	}, nil
}

// Name returns the cookie's name.
func (c *Cookie) Name() string { return c.name }

// Find adds every value of the session cookie in one Cookie header line to p. A ; ends a pair even within quotes, and the
// name is compared byte by byte, without the blanks after a ;. Find allocates nothing and keeps no reference to line.
func (c *Cookie) Find(line []byte, p *coatcheck.Presented) {
	for len(line) > 0 {
		pair := line
		if i := bytes.IndexByte(line, ';'); i >= 0 {
			pair, line = line[:i], line[i+1:]
		} else {
			line = nil
		}
		for len(pair) > 0 && (pair[0] == ' ' || pair[0] == '\t') {
			pair = pair[1:]
		}
		if bytes.HasPrefix(pair, c.pair) {
			p.Add(Unquoted(pair[len(c.pair):]))
		}
	}
}

// Unquoted returns a value without the pair of DQUOTE that may stand around it: that of a cookie (RFC 6265, section 4.1.1), as
// Java's cookie managers send it, or of a header line (RFC 9651, section 3.3.3).
func Unquoted(value []byte) []byte {
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
		return value[1 : n-1]
	}
	return value
}

// AppendLine appends to dst the value of the Set-Cookie line that the response to a finished request needs at now; nothing if
// it needs none.
func (c *Cookie) AppendLine(dst []byte, r *coatcheck.Request, now time.Time) []byte {
	switch r.Cookie() {
	case coatcheck.ClearCookie:
		return append(dst, c.clear...)
	case coatcheck.SetCookie:
		token, left := r.Token(now)
		dst = append(dst, c.pair...)
		dst = token.AppendSecretText(dst)
		dst = append(dst, "; Max-Age="...)
		dst = strconv.AppendInt(dst, seconds(left), 10)
		return append(dst, c.attrs...)
	default:
		return dst
	}
}
