package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is how the text of a setting is read. set parses the text, stores the result in the variable that the constructor got,
// and returns the text in its canonical spelling. Its error neither names the setting nor repeats the text: the caller does
// both, unless the text is secret. That of a list names the entries that are wrong.
type kind struct {
	noun  string // what the text is, for --help; empty for a switch
	set   func(text string) (canonical string, err error)
	joins string // what joins the texts of several times; empty: the last one counts
}

// text is any text.
func text(noun string, p *string) kind {
	return kind{noun: noun, set: func(s string) (string, error) {
		*p = s
		return s, nil
	}}
}

// filled is any text that is not empty.
func filled(noun string, p *string) kind {
	return kind{noun: noun, set: func(s string) (string, error) {
		if s == "" {
			return "", errors.New("must not be empty")
		}
		*p = s
		return s, nil
	}}
}

// word is one of several words.
func word(p *string, words []string) kind {
	return kind{noun: strings.Join(words, "|"), set: func(s string) (string, error) {
		if !slices.Contains(words, s) {
			return "", fmt.Errorf("must be %s", strings.Join(words, ", "))
		}
		*p = s
		return s, nil
	}}
}

// onOff is a switch. Given without a value it is on.
func onOff(p *bool) kind {
	return kind{set: func(s string) (string, error) {
		v, err := strconv.ParseBool(s)
		if err != nil {
			return "", errors.New("must be true or false")
		}
		*p = v
		return strconv.FormatBool(v), nil
	}}
}

// offOn is a switch that turns *p off when it is on.
func offOn(p *bool) kind {
	var on bool
	k := onOff(&on)
	return kind{set: func(s string) (string, error) {
		canonical, err := k.set(s)
		if err == nil {
			*p = !on
		}
		return canonical, err
	}}
}

// count is a number from zero up. Zero is stored in *p as none: library configurations say "no limit" with a negative number,
// because their zero is the default.
func count(p *int, none int) kind {
	return kind{noun: "number", set: func(s string) (string, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return "", errors.New("must be a whole number from 0 up")
		}
		*p = n
		if n == 0 {
			*p = none
		}
		return strconv.Itoa(n), nil
	}}
}

// positive is a duration above zero.
func positive(p *time.Duration) kind {
	return duration(p, func(d time.Duration) (time.Duration, error) {
		if d <= 0 {
			return 0, errors.New("must be above 0s")
		}
		return d, nil
	})
}

// span is a duration from zero up. Zero is stored in *p as none, as with count.
func span(p *time.Duration, none time.Duration) kind {
	return duration(p, func(d time.Duration) (time.Duration, error) {
		switch {
		case d < 0:
			return 0, errors.New("must not be negative")
		case d == 0:
			return none, nil
		default:
			return d, nil
		}
	})
}

// atLeastASecond is for a duration that nothing turns off.
func atLeastASecond(d time.Duration) (time.Duration, error) {
	if d < time.Second {
		return 0, errors.New("must be at least 1s")
	}
	return d, nil
}

func duration(p *time.Duration, check func(time.Duration) (time.Duration, error)) kind {
	return kind{noun: "duration", set: func(s string) (string, error) {
		d, err := time.ParseDuration(s)
		if err != nil {
			return "", errors.New("not a duration such as 500ms, 30m or 12h")
		}
		v, err := check(d)
		if err == nil {
			*p = v
		}
		return d.String(), err
	}}
}

// list is texts separated by commas, none of them empty.
func list(noun string, p *[]string) kind {
	return kind{noun: noun + ",...", joins: ",", set: func(s string) (string, error) {
		if s == "" {
			*p = nil
			return "", nil
		}
		parts := strings.Split(s, ",")
		for i, part := range parts {
			if parts[i] = strings.TrimSpace(part); parts[i] == "" {
				return "", errors.New("has an empty entry between its commas")
			}
		}
		*p = parts
		return strings.Join(parts, ","), nil
	}}
}

// address is where to listen: a host, which may be missing for every interface, and a port; 0 takes a free one; or a Unix socket.
// The words in others are accepted unchanged.
func address(p *string, others ...string) kind {
	noun := strings.Join(append([]string{"host:port", "unix:path"}, others...), "|")
	return kind{noun: noun, set: func(s string) (string, error) {
		if _, ok, err := ParseUnixSocket(s); ok {
			if err == nil {
				*p = s
			}
			return s, err
		}
		if !slices.Contains(others, s) {
			_, port, err := net.SplitHostPort(s)
			if err != nil {
				return "", errors.New("not an address such as 127.0.0.1:3000 or [::1]:3000")
			}
			if _, err := strconv.ParseUint(port, 10, 16); err != nil {
				return "", errors.New("the port must be a number from 0 to 65535")
			}
		}
		*p = s
		return s, nil
	}}
}

// Exposed reports whether other machines may reach the address. A host name other than localhost counts as exposed, because
// its address may change. A text that is no address is not exposed: it is "off", or a mistake that is reported elsewhere.
func Exposed(addr string) bool {
	if strings.HasPrefix(addr, unixPrefix) {
		return false
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil || host == "localhost" {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || !ip.Unmap().IsLoopback()
}

// size is a number of bytes above zero, with a binary unit.
func size(p *int) kind {
	return kind{noun: "size", set: func(s string) (string, error) {
		number, unit := strings.TrimRight(s, "KMGiB"), strings.TrimLeft(s, "0123456789")
		shift, known := map[string]int{"": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30}[unit]
		n, err := strconv.Atoi(number)
		if err != nil || !known || n <= 0 || n > math.MaxInt>>shift {
			return "", errors.New("not a size such as 512KiB, 64MiB or 1GiB")
		}
		*p = n << shift
		return strconv.Itoa(*p), nil
	}}
}

// mostAhead is how much the clocks of two machines may differ: a time that is further ahead is a mistake.
const mostAhead = time.Minute

// rfc3339 is what time.Parse should take: it also takes a comma for the point, and an hour of one digit.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// moment is a time in the past, as RFC 3339 writes it, with an offset: without one it would mean another moment on each
// machine.
func moment(p *time.Time) kind {
	return kind{noun: "time", set: func(s string) (string, error) {
		t, err := time.Parse(time.RFC3339, s)
		switch {
		case err != nil && lacksOffset(s):
			return "", errors.New("has no offset from UTC: a time is written 2026-11-23T16:00:00Z, or with +01:00 in place of Z")
		case err != nil, !rfc3339.MatchString(s):
			return "", errors.New("not a time such as 2026-11-23T16:00:00Z")
		case time.Until(t) > mostAhead:
			return "", errors.New("is more than a minute ahead: a user who logs in before it would be logged out at once")
		}
		*p = t
		return t.UTC().Format(time.RFC3339Nano), nil
	}}
}

// lacksOffset reports whether the text is a time of RFC 3339 up to its offset.
func lacksOffset(s string) bool {
	for _, layout := range []string{"2006-01-02T15:04:05", time.DateTime, "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if _, err := time.Parse(layout, s); err == nil {
			return true
		}
	}
	return false
}

// networks is a list of networks; an address stands for the network of that one address.
func networks(p *[]netip.Prefix) kind {
	var texts []string
	k := list("CIDR", &texts)
	return kind{noun: k.noun, joins: k.joins, set: func(s string) (string, error) {
		canonical, err := k.set(s)
		if err != nil {
			return "", err
		}
		var all []netip.Prefix
		var wrong []string
		for _, text := range texts {
			prefix, err := netip.ParsePrefix(text)
			if addr, addrErr := netip.ParseAddr(text); err != nil && addrErr == nil && addr.Zone() == "" {
				prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
			}
			if err != nil {
				wrong = append(wrong, fmt.Sprintf("%.60q", text))
				continue
			}
			if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= 96 {
				prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
			}
			all = append(all, prefix.Masked())
		}
		if len(wrong) > 0 {
			return "", fmt.Errorf("not a network such as 10.0.0.0/8 or 192.0.2.7: %s", strings.Join(wrong, ", "))
		}
		*p = all
		return canonical, nil
	}}
}
