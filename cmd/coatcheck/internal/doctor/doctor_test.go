package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// diagnosis is what was found, by the check's name.
type diagnosis struct {
	t     *testing.T
	by    map[string]Verdict
	texts string
}

// examined looks at the configuration of a server that does not run unless the arguments name one.
func examined(t *testing.T, args ...string) diagnosis {
	t.Helper()
	var public string
	c, err := config.Load(append([]string{"--admin-listen=127.0.0.1:1"}, args...), nil, config.Text("url", "URL", &public))
	require.NoError(t, err)
	address, err := PublicURL(public)
	require.NoError(t, err)
	report := Examine(t.Context(), c, nil, nil, address)
	d := diagnosis{t: t, by: make(map[string]Verdict), texts: report.JSON() + report.String()}
	for _, v := range report {
		require.NotContains(t, d.by, v.Check, "said once")
		require.Contains(t, []string{Fine, Warning, Problem}, v.Result)
		require.NotEmpty(t, v.Text)
		d.by[v.Check] = v
	}
	return d
}

func (d diagnosis) with(result string) (checks []string) {
	for name, v := range d.by {
		if v.Result == result {
			checks = append(checks, name)
		}
	}
	return checks
}

// says asserts what a check came to.
func (d diagnosis) says(check, result, text string) {
	d.t.Helper()
	assert.Equal(d.t, result, d.by[check].Result, "%s: %s", check, d.by[check].Text)
	assert.Contains(d.t, d.by[check].Text, text, check)
}

func TestOnAConfiguration(t *testing.T) {
	trusted := "--login=trusted --login-key-file=" + keyFile(t, 0o600) + " "
	for name, tt := range map[string]struct{ args, check, result, text string }{
		"Secure over http":             {"--url=http://login.example.com", "cookie-secure", Problem, "nobody stays logged in"},
		"Secure over http on loopback": {"--url=http://localhost:3000", "cookie-secure", Warning, "Safari"},
		"Secure over https":            {"--url=https://login.example.com", "cookie-secure", Fine, ""},
		"not Secure over https":        {"--url=https://login.example.com --cookie-name=sid --cookie-secure=false", "cookie-secure", Warning, "plain http"},
		"a foreign Domain":             {"--url=https://login.example.com --cookie-name=sid --cookie-domain=example.org", "cookie-domain", Problem, "take no cookie for example.org"},
		"half a Domain":                {"--url=https://login.example.com --cookie-name=sid --cookie-domain=ample.com", "cookie-domain", Problem, "take no cookie"},
		"a public suffix":              {"--url=https://shop.co.uk --cookie-name=sid --cookie-domain=co.uk", "cookie-domain", Problem, "public suffix"},
		"a parent Domain":              {"--url=https://Login.example.com --cookie-name=sid --cookie-domain=.example.com", "cookie-domain", Fine, ""},
		"no Domain":                    {"--url=https://login.example.com", "cookie-domain", Fine, ""},
		"a Path elsewhere":             {"--url=https://example.com --cookie-name=sid --cookie-path=/app", "cookie-path", Problem, "everybody is anonymous"},
		"a Path that ends in a word":   {"--url=https://example.com --cookie-name=sid --cookie-path=/aut", "cookie-path", Problem, ""},
		"the proxy's Path":             {"--url=https://example.com/app/ --cookie-name=sid --cookie-path=/app", "cookie-path", Fine, ""},
		"the routes' Path":             {"--url=https://example.com --cookie-name=sid --cookie-path=/auth", "cookie-path", Fine, ""},
		"another site, lax":            {"--url=https://login.example.com --trusted-origins=https://app.example.org", "cookie-same-site", Problem, "--cookie-same-site=none"},
		"another site, strict":         {"--url=https://login.example.com --trusted-origins=https://app.example.org --cookie-same-site=strict", "cookie-same-site", Problem, "SameSite=strict"},
		"another site, none":           {"--url=https://login.example.com --trusted-origins=https://app.example.org --cookie-same-site=none", "cookie-same-site", Warning, "third-party"},
		"neighbours below a suffix":    {"--url=https://login.github.io --trusted-origins=https://app.github.io", "cookie-same-site", Problem, "another site"},
		"the same site":                {"--url=https://login.example.com --trusted-origins=https://app.example.com:8443", "cookie-same-site", Fine, ""},
		"the same over http":           {"--url=https://login.example.com --trusted-origins=http://app.example.com", "cookie-same-site", Problem, "another site"},
		"an origin, and no URL":        {"--trusted-origins=https://app.example.com", "cookie-same-site", Warning, "--url"},
		"no URL":                       {"", "cookie", Fine, "--url"},
		"a proxy that is not trusted":  {"--url=https://login.example.com", "proxies", Problem, "does not name 127.0.0.1"},
		"another proxy is":             {"--url=https://login.example.com --trusted-proxies=10.0.0.0/8", "proxies", Problem, "does not name 127.0.0.1"},
		"the proxy is trusted":         {"--url=https://login.example.com --trusted-proxies=127.0.0.0/8", "proxies", Fine, ""},
		"everybody is":                 {"--trusted-proxies=0.0.0.0/0", "proxies", Problem, "everybody"},
		"no proxy":                     {"--listen=192.0.2.1:80 --url=https://login.example.com", "proxies", Fine, ""},
		"bound over http":              {"--dbsc --url=http://login.example.com", "dbsc", Problem, "https"},
		"bound, and no URL":            {"--dbsc", "dbsc", Fine, "--url"},
		"not bound":                    {"--url=http://login.example.com", "dbsc", "", ""},
		"bound for too short":          {"--dbsc --dbsc-ttl=4m", "dbsc-ttl", Warning, "5m"},
		"bound for long enough":        {"--dbsc --dbsc-ttl=5m", "dbsc-ttl", "", ""},
		"no admin":                     {"--admin-listen=off", "admin-listen", Warning, "off"},
		"admin for others":             {"--admin-listen=192.0.2.1:1 --admin-key-file=" + keyFile(t, 0o600), "admin-listen", Warning, "plain text"},
		"a login key for all":          {"--login=trusted --login-key-file=" + keyFile(t, 0o644), "login-key-file", Problem, "read"},
		"a users file for all":         {"--login=users --users-file=" + usersFile(t, 0o604), "users-file", Problem, "read"},
		"a users file to write to":     {"--login=users --users-file=" + usersFile(t, 0o602), "users-file", Problem, "change"},
		"a users file for a group":     {"--login=users --users-file=" + usersFile(t, 0o640), "users-file", Fine, ""},
		"an admin key for all":         {"--admin-key-file=" + keyFile(t, 0o644), "admin-key-file", Problem, "read"},
		"a password in the file":       {"--config=" + configFile(t, "store = \"redis://:s3cret@127.0.0.1:1\"\n", 0o644), "config", Problem, "read"},
		"no password in the file":      {"--config=" + configFile(t, "ttl = \"20m\"\n", 0o644), "config", Fine, ""},
		"a file to write to":           {"--config=" + configFile(t, "ttl = \"20m\"\n", 0o666), "config", Problem, "change"},
		"a file for a group":           {"--config=" + configFile(t, "ttl = \"20m\"\n", 0o664), "config", Warning, "group"},
		"a password file for all":      {"--store=redis://127.0.0.1:1 --redis-password-file=" + withMode(t, "s3cret\n", 0o644), "redis-password-file", Problem, "read"},
		"a data directory for all":     {"--data-dir=" + openFolder(t), "data-dir-mode", Problem, "put files into"},
		"open off loopback":            {"--login=open --url=https://login.example.com", "login", Problem, "as anybody"},
		"open":                         {"--login=open", "login", Warning, "development"},
		"in memory":                    {"", "store", Fine, "a restart logs everybody out"},
	} {
		t.Run(name, func(t *testing.T) {
			args := tt.args
			if !strings.Contains(args, "--login=") {
				args = trusted + args
			}
			d := examined(t, strings.Fields(args)...)
			d.says(tt.check, tt.result, tt.text)
			assert.NotContains(t, d.texts, "s3cret")
			assert.NotContains(t, d.texts, secret)
		})
	}
}

const secret = "a-key-of-more-than-thirty-two-characters"

func keyFile(t *testing.T, mode os.FileMode) string { return withMode(t, secret+"\n", mode) }

func usersFile(t *testing.T, mode os.FileMode) string { return withMode(t, "ada:\n", mode) }

func configFile(t *testing.T, text string, mode os.FileMode) string { return withMode(t, text, mode) }

// withMode writes a file whose mode the umask does not touch.
func withMode(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	require.NoError(t, os.Chmod(path, mode))
	return path
}

// openFolder is one that everybody may write to.
func openFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o777)) //nolint:gosec // that is what is tested
	return dir
}

func TestOnRedis(t *testing.T) {
	on := func(url string, more ...string) diagnosis {
		d := examined(t, append([]string{"--dev", "--store", url}, more...)...)
		assert.NotContains(t, d.texts, "s3cret")
		return d
	}
	server := redistest.Start(t)
	assert.Empty(t, on(server.URL()).with(Problem))
	on(server.URL(), "--redis-wait-replicas=1").says("redis-replicas", Problem, "fewer replicas")

	evicting := redistest.Start(t, "maxmemory-policy allkeys-lru", "maxmemory 100mb")
	on(evicting.URL()).says("redis-eviction", Problem, "set maxmemory-policy noeviction")
	on(evicting.URL(), "--redis-allow-eviction").says("redis-eviction", Warning, "set maxmemory-policy noeviction")

	users := redistest.Start(t, "user default on >s3cret +@all ~* &*", "user deaf on >s3cret +@all -client ~* &*",
		"user poor on >s3cret +@all -zadd -evalsha ~* &*", "user astray on >s3cret +@all ~other:* &*", "user mute on >s3cret ~*")
	as := func(user string) diagnosis {
		return on(strings.Replace(users.URL(), "redis://", "redis://"+user+":s3cret@", 1))
	}
	as("deaf").says("redis-cache", Warning, "no client-side caching")
	as("poor").says("redis-commands", Problem, "give him +evalsha +zadd")
	as("astray").says("redis-commands", Problem, "~coatcheck:*")
	as("mute").says("redis-commands", Problem, "give him +set +get")
	on(users.URL()).says("redis", Problem, "right user and password")
	on(strings.Replace(users.URL(), "redis://", "redis://:wr0ng@", 1)).says("redis", Problem, "right user and password")

	server.Kill()
	on(server.URL()).says("redis", Problem, "see that Redis runs")
}

// A folder that no server has used yet is fine where it is empty, and doubtful where it is not.
func TestOnAnUnusedDataDir(t *testing.T) {
	dir := t.TempDir()
	examined(t, "--dev", "--data-dir", dir).says("data-dir", Fine, "is empty")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	examined(t, "--dev", "--data-dir", dir).says("data-dir", Warning, "holds files and no sessions")
}

func TestGauge(t *testing.T) {
	n, ok := gauge([]byte("# TYPE process_max_fds gauge\nprocess_max_fds_other 7\nprocess_max_fds 1.048576e+06\n"), "process_max_fds")
	assert.True(t, ok)
	assert.EqualValues(t, 1<<20, n)
}
