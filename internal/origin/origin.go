// Package origin writes the origin of a URL as browsers do.
package origin

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Of returns the origin of a URL of http or https as browsers write it (RFC 6454, section 6.2, and the URL standard of WHATWG), so
// that it compares byte by byte with what they send: lower case, the port only if it is not the scheme's own, an IPv6 address in its
// short form. The error, which repeats nothing of the URL, is for a port that browsers refuse, and for some of the hosts that they
// refuse or take for another one.
func Of(u *url.URL) (string, error) {
	host, err := hostOf(u)
	if err != nil {
		return "", err
	}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return "", errors.New("a port is a number from 1 to 65535")
		}
		if (u.Scheme != "https" || n != 443) && (u.Scheme != "http" || n != 80) {
			host += ":" + strconv.FormatUint(n, 10)
		}
	}
	return u.Scheme + "://" + host, nil
}

func hostOf(u *url.URL) (string, error) {
	host := strings.ToLower(u.Hostname())
	addr, err := netip.ParseAddr(host)
	switch {
	case strings.ContainsAny(host, "<>"):
		return "", errors.New("no host has < or > in it")
	case strings.ContainsFunc(host, func(r rune) bool { return r > '~' }): // of the others url.Parse lets no more pass
		return "", errors.New("the host must be ASCII (a name with other letters begins with xn-- there)")
	case strings.HasPrefix(u.Host, "["):
		if err != nil || addr.Zone() != "" {
			return "", errors.New("brackets hold an IPv6 address without a zone")
		}
		if addr.Is4In6() { // Go shows these with dots
			b := addr.As16()
			return "[::ffff:" + hex(b[12:14]) + ":" + hex(b[14:]) + "]", nil
		}
		return "[" + addr.String() + "]", nil
	case host == "":
		return "", errors.New("there is no host")
	case err != nil && numeric(host):
		return "", errors.New("browsers take a host that ends with a number for an IPv4 address, which is four decimal numbers without leading zeros")
	}
	return host, nil
}

func hex(b []byte) string { return strconv.FormatUint(uint64(b[0])<<8|uint64(b[1]), 16) }

// numeric reports whether the last part of a host is a number, be it hexadecimal.
func numeric(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	digits, isHex := strings.CutPrefix(last, "0x")
	if isHex {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}
