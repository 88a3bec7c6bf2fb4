package cookie

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"github.com/coatcheck/coatcheck"
)

// A login that offers to bind its session to a device (package dbsc) also sets the name cookie: the session's Key, which
// opens nothing. A refresh names a session, and the name cookie must name the same one, so that a browser that still has an
// earlier session's key does not end up in that session. It has no SameSite limit, because a refresh may be caused by another
// site's link, and it lives as long as the session may.
const (
	nameSuffix = "-name"
	nameAttrs  = "; Path=/; Secure; HttpOnly; SameSite=None"
)

// ValidateBinding returns all reasons why sessions with this cookie cannot be bound to a device, joined.
func (c Config) ValidateBinding() error {
	var errs []error
	if c.Insecure {
		errs = append(errs, errors.New("dbsc: wants cookie-secure, because browsers bind sessions over https only"))
	}
	if c.Domain != "" {
		errs = append(errs, errors.New("dbsc: allows no cookie-domain"))
	}
	return errors.Join(errs...)
}

// Attributes returns the attributes that Set-Cookie has beside Max-Age, without a leading semicolon.
func (c *Cookie) Attributes() string { return c.attrs[len("; "):] }

// FindName returns the session that the name cookie in these Cookie header lines names; false if there is none, or if there
// are several that differ.
func (c *Cookie) FindName(lines []string) (coatcheck.Key, bool) {
	var key coatcheck.Key
	for _, line := range lines {
		for _, pair := range bytes.Split([]byte(line), []byte(";")) {
			value, ok := bytes.CutPrefix(bytes.TrimLeft(pair, " \t"), []byte(c.name+nameSuffix+"="))
			if !ok {
				continue
			}
			one, ok := coatcheck.ParseKey(Unquoted(value))
			if !ok || one.IsZero() || !key.IsZero() && key != one {
				return coatcheck.Key{}, false
			}
			key = one
		}
	}
	return key, !key.IsZero()
}

// CarriesName reports whether there is a name cookie of any value in these Cookie header lines.
func (c *Cookie) CarriesName(lines []string) bool {
	for _, line := range lines {
		if bytes.Contains([]byte(line), []byte(c.name+nameSuffix+"=")) {
			return true
		}
	}
	return false
}

// NameLine returns the value of the Set-Cookie line that sets the name cookie for the time that is left of a session.
func (c *Cookie) NameLine(key coatcheck.Key, left time.Duration) string {
	return c.name + nameSuffix + "=" + key.String() + "; Max-Age=" + strconv.FormatInt(seconds(left), 10) + nameAttrs
}

// ClearNameLine returns the value of the Set-Cookie line that clears the name cookie.
func (c *Cookie) ClearNameLine() string { return c.name + nameSuffix + "=; Max-Age=0" + nameAttrs }

// seconds is a Max-Age, rounded up: the answer leaves a moment after the session began, and a second less than its lifetime would be
// neither that nor what is left. At least 1, because 0 would clear the cookie. The session's own expiry does not depend on it.
func seconds(left time.Duration) int64 {
	return max(1, int64((min(left, maxAge)+time.Second-1)/time.Second))
}
