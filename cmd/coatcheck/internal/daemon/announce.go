package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
)

// announce prints where the server listens, and remarks for the person who starts it. The addresses go to standard output in
// a form for people and scripts, whatever the log's level; remarks go to the log.
func announce(c *config.Config, o *credentials.Credentials, public, admin net.Listener, log *slog.Logger, stdout io.Writer) {
	for _, note := range slices.Concat(c.Notes, o.Notes) {
		log.Warn(note)
	}
	url := baseURL(public.Addr())
	if o.Certificate != nil {
		url = strings.Replace(url, "http://", "https://", 1)
	}
	text := "coatcheck listens on " + url + "\n"
	attrs := []any{"url", url}
	if admin != nil {
		// The form for scripts, and then the sentence that tells people which is which.
		text += "coatcheck listens on " + baseURL(admin.Addr()) + "\nits health and admin API on " + baseURL(admin.Addr()) + "\n"
		attrs = append(attrs, "admin_url", baseURL(admin.Addr()))
	}
	log.Info("listening", append(attrs, "max_conns", c.Server.MaxConns)...)
	if ttl := c.Server.Policy.BoundTTL; c.Server.DBSC && ttl < config.MinBoundTTL {
		log.Warn("--dbsc-ttl is so short that browsers run out of the signatures that they allow a site", "dbsc_ttl", ttl.String(), "least", config.MinBoundTTL.String())
	}
	if c.Login == "open" {
		const warning = "login mode open: anybody who reaches this server can log in as any user, without a password"
		text += "\nWARNING: " + warning + "\n"
		log.Warn(warning)
	}
	if c.Dev {
		text += sharedCookie(c, public.Addr())
		text += "\nTry it:\n  " + strings.Join(CurlLines(url), "\n  ") + "\n\n"
	}
	if _, err := io.WriteString(stdout, text); err != nil {
		log.Warn("cannot write to standard output", "error", err)
	}
}

// sharedCookie is the remark for a person who runs a second --dev server on this machine; empty where none is needed.
func sharedCookie(c *config.Config, addr net.Addr) string {
	at, ok := addr.(*net.TCPAddr)
	if !ok || at.Port == config.DevPort || c.Server.Cookie.Name != config.DevCookie {
		return ""
	}
	return "\nA browser sends the cookie " + config.DevCookie + " to every port of this host, and two --dev servers would clear each other's:\n" +
		"give this one a cookie of its own with --cookie-name if another one runs.\n"
}

// CurlLines are four commands that show what the server does. README.md has the same, and a test runs them as they are.
func CurlLines(url string) []string {
	curl := `curl -sS -b jar.txt -c jar.txt -w ' %{http_code}\n' `
	if socket, ok := strings.CutPrefix(url, "unix:"); ok {
		curl += "--unix-socket '" + socket + "' "
		url = "http://localhost"
	}
	return []string{
		curl + `-H 'Content-Type: application/json' -d '{"user_id":"user-42"}' ` + url + "/auth/login",
		curl + url + "/auth/me",
		curl + "-X POST " + url + "/auth/refresh",
		curl + "-X POST " + url + "/auth/logout",
	}
}

// baseURL returns the URL at which this machine reaches a listener. A listener on all interfaces is reached on loopback too.
func baseURL(addr net.Addr) string {
	if addr.Network() == "unix" {
		return "unix:" + addr.String()
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return "http://" + addr.String()
	}
	if ap.Addr().IsUnspecified() {
		return fmt.Sprintf("http://localhost:%d", ap.Port())
	}
	return "http://" + ap.String()
}
