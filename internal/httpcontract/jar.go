package httpcontract

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SetCookie is a Set-Cookie line taken apart.
type SetCookie struct {
	Name, Value string
	Attrs       []string
}

// ParseSetCookie takes a Set-Cookie line apart.
func ParseSetCookie(line string) SetCookie {
	parts := strings.Split(line, ";")
	name, value, _ := strings.Cut(parts[0], "=")
	c := SetCookie{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)}
	for _, a := range parts[1:] {
		c.Attrs = append(c.Attrs, strings.TrimSpace(a))
	}
	return c
}

// Jar is a browser's cookie store for one https site, after RFC 6265bis section 5.7, as far as one host needs it.
type Jar struct {
	host    string
	now     func() time.Time
	cookies []jarCookie
}

type jarCookie struct {
	name, value, domain, path string
	hostOnly                  bool
	expires                   time.Time // zero: at the end of the browser session
	stored                    int
}

// NewJar returns an empty jar that uses the given clock.
func NewJar(now func() time.Time) *Jar { return &Jar{host: "app.example.com", now: now} }

// Apply stores what a response sets. A cookie that a browser would refuse is ignored.
func (j *Jar) Apply(r Response) {
	for _, line := range r.Header["Set-Cookie"] {
		j.set(ParseSetCookie(line))
	}
}

func (j *Jar) set(c SetCookie) {
	k := jarCookie{name: c.Name, value: c.Value, domain: j.host, hostOnly: true, path: "/auth"}
	var secure, hasPath, hasAge bool
	for _, a := range c.Attrs {
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
	lower := strings.ToLower(c.Name)
	switch {
	case len(c.Name)+len(c.Value) > 4096 || c.Name == "" && c.Value == "":
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

// Value returns the value of the cookie of that name, "" if the jar has none that is alive.
func (j *Jar) Value(name string) string {
	for _, k := range j.cookies {
		if k.name == name && (k.expires.IsZero() || k.expires.After(j.now())) {
			return k.value
		}
	}
	return ""
}

// Line returns the Cookie line that the browser sends for a path below /auth.
func (j *Jar) Line() string {
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
