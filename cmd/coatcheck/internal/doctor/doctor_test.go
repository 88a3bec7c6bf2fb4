package doctor_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/certificate/certtest"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/doctor"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/doctor/doctortest"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// examined looks at the configuration of a server that does not run unless the arguments name one.
func examined(t *testing.T, args ...string) doctortest.Diagnosis {
	t.Helper()
	var public string
	c, err := config.Load(append([]string{"--admin-listen=127.0.0.1:1"}, args...), nil, config.Text("url", "URL", &public))
	require.NoError(t, err)
	address, err := doctor.PublicURL(public)
	require.NoError(t, err)
	report := doctor.Examine(t.Context(), c, nil, nil, address)
	return doctortest.Of(t, report, report.JSON()+report.String())
}

func TestOnAConfiguration(t *testing.T) {
	trusted := "--login=trusted --login-key-file=" + keyFile(t, 0o600) + " "
	for name, tt := range map[string]struct{ args, check, result, text string }{
		"Secure over http":             {"--url=http://login.example.com", "cookie-secure", doctor.Problem, "nobody stays logged in"},
		"Secure over http on loopback": {"--url=http://localhost:3000", "cookie-secure", doctor.Warning, "Safari"},
		"Secure over https":            {"--url=https://login.example.com", "cookie-secure", doctor.Fine, ""},
		"not Secure over https":        {"--url=https://login.example.com --cookie-name=sid --cookie-secure=false", "cookie-secure", doctor.Warning, "plain http"},
		"a foreign Domain": {
			"--url=https://login.example.com --cookie-name=sid --cookie-domain=example.org", "cookie-domain",
			doctor.Problem, "take no cookie for example.org",
		},
		"half a Domain":              {"--url=https://login.example.com --cookie-name=sid --cookie-domain=ample.com", "cookie-domain", doctor.Problem, "take no cookie"},
		"a public suffix":            {"--url=https://shop.co.uk --cookie-name=sid --cookie-domain=co.uk", "cookie-domain", doctor.Problem, "public suffix"},
		"a parent Domain":            {"--url=https://Login.example.com --cookie-name=sid --cookie-domain=.example.com", "cookie-domain", doctor.Fine, ""},
		"no Domain":                  {"--url=https://login.example.com", "cookie-domain", doctor.Fine, ""},
		"a Path elsewhere":           {"--url=https://example.com --cookie-name=sid --cookie-path=/app", "cookie-path", doctor.Problem, "everybody is anonymous"},
		"a Path that ends in a word": {"--url=https://example.com --cookie-name=sid --cookie-path=/aut", "cookie-path", doctor.Problem, ""},
		"the proxy's Path":           {"--url=https://example.com/app/ --cookie-name=sid --cookie-path=/app", "cookie-path", doctor.Fine, ""},
		"the routes' Path":           {"--url=https://example.com --cookie-name=sid --cookie-path=/auth", "cookie-path", doctor.Fine, ""},
		"another site, lax":          {"--url=https://login.example.com --trusted-origins=https://app.example.org", "cookie-same-site", doctor.Problem, "--cookie-same-site=none"},
		"another site, strict": {
			"--url=https://login.example.com --trusted-origins=https://app.example.org --cookie-same-site=strict",
			"cookie-same-site", doctor.Problem, "SameSite=strict",
		},
		"another site, none": {
			"--url=https://login.example.com --trusted-origins=https://app.example.org --cookie-same-site=none",
			"cookie-same-site", doctor.Warning, "third-party",
		},
		"neighbours below a suffix":   {"--url=https://login.github.io --trusted-origins=https://app.github.io", "cookie-same-site", doctor.Problem, "another site"},
		"the same site":               {"--url=https://login.example.com --trusted-origins=https://app.example.com:8443", "cookie-same-site", doctor.Fine, ""},
		"the same over http":          {"--url=https://login.example.com --trusted-origins=http://app.example.com", "cookie-same-site", doctor.Problem, "another site"},
		"an origin, and no URL":       {"--trusted-origins=https://app.example.com", "cookie-same-site", doctor.Warning, "--url"},
		"no URL":                      {"", "cookie", doctor.Fine, "--url"},
		"a proxy that is not trusted": {"--url=https://login.example.com", "proxies", doctor.Problem, "does not name 127.0.0.1"},
		"another proxy is":            {"--url=https://login.example.com --trusted-proxies=10.0.0.0/8", "proxies", doctor.Problem, "does not name 127.0.0.1"},
		"the proxy is trusted":        {"--url=https://login.example.com --trusted-proxies=127.0.0.0/8", "proxies", doctor.Fine, ""},
		"everybody is":                {"--trusted-proxies=0.0.0.0/0", "proxies", doctor.Problem, "everybody"},
		"no proxy":                    {"--listen=192.0.2.1:80 --url=https://login.example.com", "proxies", doctor.Fine, ""},
		"a socket's clients":          {"--listen=unix:" + t.TempDir() + "/s", "proxies", doctor.Fine, "everybody who may connect to the socket"},
		"bound over http":             {"--dbsc --url=http://login.example.com", "dbsc", doctor.Problem, "https"},
		"bound, and no URL":           {"--dbsc", "dbsc", doctor.Fine, "--url"},
		"not bound":                   {"--url=http://login.example.com", "dbsc", "", ""},
		"bound for too short":         {"--dbsc --dbsc-ttl=4m", "dbsc-ttl", doctor.Warning, "5m"},
		"bound for long enough":       {"--dbsc --dbsc-ttl=5m", "dbsc-ttl", "", ""},
		"no admin":                    {"--admin-listen=off", "admin-listen", doctor.Warning, "off"},
		"admin for others":            {"--admin-listen=192.0.2.1:1 --admin-key-file=" + keyFile(t, 0o600), "admin-listen", doctor.Warning, "plain text"},
		"a login key for all":         {"--login=trusted --login-key-file=" + keyFile(t, 0o644), "login-key-file", doctor.Problem, "read"},
		"a users file for all":        {"--login=users --users-file=" + usersFile(t, 0o604), "users-file", doctor.Problem, "read"},
		"a users file to write to":    {"--login=users --users-file=" + usersFile(t, 0o602), "users-file", doctor.Problem, "change"},
		"a users file for a group":    {"--login=users --users-file=" + usersFile(t, 0o640), "users-file", doctor.Fine, ""},
		"an admin key for all":        {"--admin-key-file=" + keyFile(t, 0o644), "admin-key-file", doctor.Problem, "read"},
		"a password in the file":      {"--config=" + configFile(t, "store = \"redis://:s3cret@127.0.0.1:1\"\n", 0o644), "config", doctor.Problem, "read"},
		"no password in the file":     {"--config=" + configFile(t, "ttl = \"20m\"\n", 0o644), "config", doctor.Fine, ""},
		"a file to write to":          {"--config=" + configFile(t, "ttl = \"20m\"\n", 0o666), "config", doctor.Problem, "change"},
		"a file for a group":          {"--config=" + configFile(t, "ttl = \"20m\"\n", 0o664), "config", doctor.Warning, "group"},
		"a password file for all":     {"--store=redis://127.0.0.1:1 --redis-password-file=" + doctortest.File(t, "s3cret\n", 0o644), "redis-password-file", doctor.Problem, "read"},
		"a data directory for all":    {"--data-dir=" + openFolder(t), "data-dir-mode", doctor.Problem, "put files into"},
		"open off loopback":           {"--login=open --url=https://login.example.com", "login", doctor.Problem, "or oidc"},
		"open":                        {"--login=open", "login", doctor.Warning, "development"},
		"in memory":                   {"", "store", doctor.Fine, "a restart logs everybody out"},
		"a socket":                    {"--listen=unix:" + t.TempDir() + "/s", "listen-socket", doctor.Fine, ""},
		"a socket in no folder":       {"--listen=unix:/nowhere/s?owner=:www-data", "listen-socket", doctor.Warning, "/nowhere is not there"},
		"a socket in a file":          {"--listen=unix:" + keyFile(t, 0o600) + "/s", "listen-socket", doctor.Problem, "cannot make its socket"},
		"an admin socket in none":     {"--admin-listen=unix:/nowhere/s", "admin-socket", doctor.Warning, "/nowhere is not there"},
		"no socket":                   {"", "listen-socket", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			args := tt.args
			if !strings.Contains(args, "--login=") {
				args = trusted + args
			}
			d := examined(t, strings.Fields(args)...)
			d.Says(tt.check, tt.result, tt.text)
			assert.NotContains(t, d.Texts, "s3cret")
			assert.NotContains(t, d.Texts, secret)
		})
	}
}

const secret = "a-key-of-more-than-thirty-two-characters"

func keyFile(t *testing.T, mode os.FileMode) string { return doctortest.File(t, secret+"\n", mode) }

func usersFile(t *testing.T, mode os.FileMode) string { return doctortest.File(t, "ada:\n", mode) }

func configFile(t *testing.T, text string, mode os.FileMode) string {
	return doctortest.File(t, text, mode)
}

// openFolder is one that everybody may write to.
func openFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o777)) //nolint:gosec // that is what is tested
	return dir
}

func TestOnRedis(t *testing.T) {
	on := func(url string, more ...string) doctortest.Diagnosis {
		d := examined(t, append([]string{"--dev", "--store", url}, more...)...)
		assert.NotContains(t, d.Texts, "s3cret")
		return d
	}
	server := redistest.Start(t)
	assert.Empty(t, on(server.URL()).With(doctor.Problem))
	on(server.URL()).Says("redis-persistence", doctor.Warning, "set appendonly yes")
	on(redistest.Start(t, "appendonly yes").URL()).Says("redis-persistence", doctor.Fine, "the last second or two, logouts included")
	on(server.URL(), "--redis-wait-replicas=1").Says("redis-replicas", doctor.Problem, "fewer replicas")

	evicting := redistest.Start(t, "maxmemory-policy allkeys-lru", "maxmemory 100mb")
	on(evicting.URL()).Says("redis-eviction", doctor.Problem, "set maxmemory-policy noeviction")
	on(evicting.URL(), "--redis-allow-eviction").Says("redis-eviction", doctor.Warning, "set maxmemory-policy noeviction")

	users := redistest.Start(t, "user default on >s3cret +@all ~* &*", "user deaf on >s3cret +@all -client ~* &*",
		"user poor on >s3cret +@all -zadd -evalsha ~* &*", "user astray on >s3cret +@all ~other:* &*", "user mute on >s3cret ~*")
	as := func(user string) doctortest.Diagnosis {
		return on(strings.Replace(users.URL(), "redis://", "redis://"+user+":s3cret@", 1))
	}
	as("deaf").Says("redis-cache", doctor.Warning, "no client-side caching")
	as("poor").Says("redis-commands", doctor.Problem, "give the user +evalsha +zadd")
	as("astray").Says("redis-commands", doctor.Problem, "~coatcheck:*")
	as("mute").Says("redis-commands", doctor.Problem, "give the user +set +get")
	on(users.URL()).Says("redis", doctor.Problem, "right user and password")
	on(strings.Replace(users.URL(), "redis://", "redis://:wr0ng@", 1)).Says("redis", doctor.Problem, "right user and password")

	server.Must("CONFIG", "SET", "maxclients", "1") // which is the test's own
	on(server.URL()).Says("redis", doctor.Problem, "raise maxclients")
	server.Kill()
	on(server.URL()).Says("redis", doctor.Problem, "see that Redis runs")
}

// A folder that no server has used yet is fine where it is empty, and doubtful where it is not.
func TestOnAnUnusedDataDir(t *testing.T) {
	dir := t.TempDir()
	examined(t, "--dev", "--data-dir", dir).Says("data-dir", doctor.Fine, "is empty")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	examined(t, "--dev", "--data-dir", dir).Says("data-dir", doctor.Warning, "holds files and no sessions")
}

// The certificate is judged as the server judges it, with what stands behind the first one in its file.
func TestOnACertificate(t *testing.T) {
	ca, files := certtest.New(t), certtest.NewFiles(t)
	cert, key, _ := ca.Issue(t, time.Now().Add(90*24*time.Hour))
	files.Write(t, append(cert, ca.PEM()...), key)
	examined(t, append(files.Flags(), "--dev")...).Says("tls-cert", doctor.Fine, "good until")
	files.Write(t, append(cert, ca.PEM()[:100]...), key)
	examined(t, append(files.Flags(), "--dev")...).Says("tls-cert", doctor.Problem, "only 1 are PEM")
}

func TestGauge(t *testing.T) {
	n, ok := doctor.Gauge([]byte("# TYPE process_max_fds gauge\nprocess_max_fds_other 7\nprocess_max_fds 1.048576e+06\n"), "process_max_fds")
	assert.True(t, ok)
	assert.EqualValues(t, 1<<20, n)
}
