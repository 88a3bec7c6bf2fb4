package servertest

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setCookie is a Set-Cookie line taken apart.
type setCookie struct {
	name, value string
	attrs       []string
}

func parseSetCookie(line string) setCookie {
	parts := strings.Split(line, ";")
	name, value, _ := strings.Cut(parts[0], "=")
	c := setCookie{name: strings.TrimSpace(name), value: strings.TrimSpace(value)}
	for _, a := range parts[1:] {
		c.attrs = append(c.attrs, strings.TrimSpace(a))
	}
	return c
}

// jar is a browser's cookie store for one https site, after RFC 6265bis section 5.7, as far as one host needs it.
type jar struct {
	host    string
	now     func() time.Time
	cookies []jarCookie
}

type jarCookie struct {
	name, value, domain, path string
	hostOnly                  bool
	expires                   time.Time // zero: with the browser session
	stored                    int
}

func newJar(now func() time.Time) *jar { return &jar{host: "app.example.com", now: now} }

// apply stores what a response sets. A cookie that a browser would refuse is ignored.
func (j *jar) apply(r response) {
	for _, line := range r.header["Set-Cookie"] {
		j.set(parseSetCookie(line))
	}
}

func (j *jar) set(c setCookie) {
	k := jarCookie{name: c.name, value: c.value, domain: j.host, hostOnly: true, path: "/auth"}
	var secure, hasPath, hasAge bool
	for _, a := range c.attrs {
		name, value, _ := strings.Cut(a, "=")
		switch strings.ToLower(name) {
		case "secure":
			secure = true
		case "path":
			hasPath = value == "/"
			if strings.HasPrefix(value, "/") {
				k.path = value
			}
		case "domain":
			k.domain, k.hostOnly = strings.TrimPrefix(strings.ToLower(value), "."), false
		case "max-age":
			seconds, err := strconv.Atoi(value)
			if err != nil {
				continue
			}
			hasAge = true
			k.expires = j.now().Add(min(time.Duration(seconds)*time.Second, 400*24*time.Hour))
			if seconds <= 0 {
				k.expires = time.Unix(1, 0)
			}
		case "expires":
			if at, err := time.Parse(time.RFC1123, value); err == nil && !hasAge {
				k.expires = at
			}
		}
	}
	lower := strings.ToLower(c.name)
	switch {
	case len(c.name)+len(c.value) > 4096 || c.name == "" && c.value == "":
		return
	case !k.hostOnly && j.host != k.domain && !strings.HasSuffix(j.host, "."+k.domain):
		return
	case strings.HasPrefix(lower, "__secure-") && !secure:
		return
	case strings.HasPrefix(lower, "__host-") && (!secure || !k.hostOnly || !hasPath):
		return
	}
	k.stored = len(j.cookies)
	j.cookies = slices.DeleteFunc(j.cookies, func(o jarCookie) bool {
		same := o.name == k.name && o.domain == k.domain && o.hostOnly == k.hostOnly && o.path == k.path
		if same {
			k.stored = o.stored
		}
		return same
	})
	if k.expires.IsZero() || k.expires.After(j.now()) {
		j.cookies = append(j.cookies, k)
	}
}

// value is the value of the cookie of that name, "" if the jar has none that is alive.
func (j *jar) value(name string) string {
	for _, k := range j.cookies {
		if k.name == name && (k.expires.IsZero() || k.expires.After(j.now())) {
			return k.value
		}
	}
	return ""
}

// line is the Cookie line that the browser sends for a path below /auth.
func (j *jar) line() string {
	cookies := slices.Clone(j.cookies)
	slices.SortStableFunc(cookies, func(a, b jarCookie) int {
		return cmp.Or(cmp.Compare(len(b.path), len(a.path)), cmp.Compare(a.stored, b.stored))
	})
	var pairs []string
	for _, k := range cookies {
		if k.expires.IsZero() || k.expires.After(j.now()) {
			pairs = append(pairs, k.name+"="+k.value)
		}
	}
	if len(pairs) == 0 {
		return "X-No-Cookie: 1"
	}
	return "Cookie: " + strings.Join(pairs, "; ")
}
