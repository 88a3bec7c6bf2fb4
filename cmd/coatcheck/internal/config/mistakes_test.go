package config

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMistakes(t *testing.T) {
	tests := map[string]struct {
		args []string
		env  []string
		file string
		want []string // every line, in order; FILE stands for the file's path
	}{
		"several at once, from everywhere": {
			args: []string{"--ttl", "soon", "--cookie-secure=perhaps"},
			env:  []string{"COATCHECK_MAX_SESSIONS=-1", "COATCHECK_LOG_LEVEL=loud"},
			file: "idle-timeout = 60\non-reuse = \"panic\"\nttI = 1\n",
			want: []string{
				`"ttI": no such setting; did you mean ttl? (FILE)`,
				`--cookie-secure "perhaps": must be true or false (command line)`,
				`--ttl "soon": not a duration such as 500ms, 30m or 12h (command line)`,
				`--on-reuse "panic": must be reject, revoke (FILE)`,
				`--max-sessions "-1": must be a whole number from 0 up (COATCHECK_MAX_SESSIONS)`,
				`--idle-timeout "60": not a duration such as 500ms, 30m or 12h (FILE)`,
				`--log-level "loud": must be debug, info, warn, error (COATCHECK_LOG_LEVEL)`,
				loginMissing,
			},
		},
		"login must be named": {want: []string{loginMissing}},
		"login in an empty flag": {
			args: []string{"--login="},
			want: []string{`--login "": must be open, trusted, users, webhook, oidc (command line)`},
		},
		"zero and negative durations": {
			args: strings.Fields("--dev --ttl 0s --max-lifetime -1h --read-timeout 0 --idle-timeout -1s --shutdown-timeout 0s --renew-every -1s --rotation-grace -1s"),
			want: []string{
				`--ttl "0s": must be above 0s (command line)`,
				`--max-lifetime "-1h": must be above 0s (command line)`,
				`--renew-every "-1s": must not be negative (command line)`,
				`--rotation-grace "-1s": must not be negative (command line)`,
				`--read-timeout "0": must be above 0s (command line)`,
				`--idle-timeout "-1s": must be above 0s (command line)`,
				`--shutdown-timeout "0s": must be above 0s (command line)`,
			},
		},
		"idle beyond absolute, grace and renewal beyond idle": {
			args: []string{"--dev", "--renew-every=30m", "--rotation-grace=45m"},
			env:  []string{"COATCHECK_MAX_LIFETIME=20m", "COATCHECK_TTL=30m"},
			want: []string{
				"--max-lifetime 20m0s: must not be below ttl 30m0s (COATCHECK_MAX_LIFETIME)",
				"--renew-every 30m0s: must be below ttl 30m0s (command line)",
				"--rotation-grace 45m0s: must be below ttl 30m0s (command line)",
			},
		},
		"the server's mistakes are told with their place": {
			args: []string{"--login=open", "--cookie-same-site=none", "--trusted-origins=https://app.example.com/"},
			env:  []string{"COATCHECK_COOKIE_SECURE=false"},
			want: []string{
				"--cookie-same-site none: browsers want cookie-secure with it (command line)",
				`--cookie-name "__Host-coatcheck": __Host- wants cookie-secure (default)`,
				`--trusted-origins: "https://app.example.com/": an origin is scheme, host and port, nothing more (command line)`,
			},
		},
		"open login off loopback": {
			args: []string{"--login=open", "--listen=0.0.0.0:3000"},
			want: []string{`--login "open": on --listen "0.0.0.0:3000" others can log in as anybody; if that is meant, say --allow-open-login (command line)`},
		},
		"open login on every interface": {
			args: []string{"--login=open", "--listen=:3000"},
			want: []string{`--login "open": on --listen ":3000" others can log in as anybody; if that is meant, say --allow-open-login (command line)`},
		},
		"dev off loopback, allowed or not": {
			args: []string{"--dev", "--allow-open-login"},
			env:  []string{"COATCHECK_LISTEN=[::]:3000"},
			want: []string{`--listen "[::]:3000": --dev listens on a loopback address only (COATCHECK_LISTEN)`},
		},
		"admin off loopback": {
			args: []string{"--dev", "--admin-listen=example.com:3001"},
			want: []string{`--admin-listen "example.com:3001": off loopback it needs --admin-key-file (command line)`},
		},
		"one address for both": {
			args: []string{"--dev", "--listen=127.0.0.1:3001"},
			want: []string{`--admin-listen "127.0.0.1:3001": --listen is the same address (default)`},
		},
		"no addresses": {
			args: []string{"--dev", "--listen=off", "--admin-listen=localhost:http"},
			want: []string{
				`--listen "off": not an address such as 127.0.0.1:3000 or [::1]:3000 (command line)`,
				`--admin-listen "localhost:http": the port must be a number from 0 to 65535 (command line)`,
			},
		},
		"unknown flags, all of them": {
			args: []string{"--dev", "--tll=3m", "-p", "3000", "--port", "3000"},
			want: []string{"--tll: no such flag; did you mean --ttl?", `"-p": no such flag; flags begin with two dashes`, "--port: no such flag"},
		},
		"one dash, with and without an h": {
			args: []string{"--dev", "-shutdown-timeout", "5s", "-webhook-url=http://x", "-ttl=5h", "-th", "-cache"},
			want: []string{
				"-shutdown-timeout: no such flag; flags begin with two dashes; did you mean --shutdown-timeout?",
				"-webhook-url: no such flag; flags begin with two dashes; did you mean --webhook-url?",
				"-ttl: no such flag; flags begin with two dashes; did you mean --ttl?",
				`"-t": no such flag; flags begin with two dashes`,
				`"-c": no such flag; flags begin with two dashes`,
			},
		},
		"left-over arguments": {
			args: []string{"--dev", "false"},
			want: []string{"1 argument(s) that belong to no flag; a switch is turned off by --name=false"},
		},
		"a flag without its value": {args: []string{"--dev", "--ttl"}, want: []string{"--ttl: needs a value"}},
		"a flag without its value, and others": {
			args: []string{"--bogus", "x", "-p", "--login=open", "--listen"},
			want: []string{"--bogus: no such flag", `"-p": no such flag; flags begin with two dashes`, "--listen: needs a value"},
		},
		"no flag at all, and others": {
			args: []string{"--dev", "--bogus", "--=x"},
			want: []string{"--bogus: no such flag", "an argument is not understood: a flag is written --name=value or --name value"},
		},
		"what stands behind an argument that is no flag": {
			args: []string{"--dev", "--=x", "--ttl", "0s", "---nope", "--nope", "--max-header", "1"},
			want: []string{
				"an argument is not understood: a flag is written --name=value or --name value",
				"an argument is not understood: a flag is written --name=value or --name value",
				"--nope: no such flag",
				`--ttl "0s": must be above 0s (command line)`,
				"--max-header 1: must be from 1KiB to 64KiB (command line)",
			},
		},
		"entries that are no networks": {
			args: []string{"--dev", "--trusted-proxies=x,192.0.2.7,10.0.0.0/33"},
			want: []string{`--trusted-proxies "x,192.0.2.7,10.0.0.0/33": not a network such as 10.0.0.0/8 or 192.0.2.7: "x", "10.0.0.0/33" (command line)`},
		},
		"no flag at all": {
			args: []string{"--dev", "--=x"},
			want: []string{"an argument is not understood: a flag is written --name=value or --name value"},
		},
		"a bad address is told once": {
			args: []string{"--login=open", "--listen=3000"},
			want: []string{`--listen "3000": not an address such as 127.0.0.1:3000 or [::1]:3000 (command line)`},
		},
		"an empty entry in a list": {
			args: []string{"--dev", "--trusted-origins=https://a.example,"},
			want: []string{`--trusted-origins "https://a.example,": has an empty entry between its commas (command line)`},
		},
		"an empty entry in one list of several": {
			args: []string{"--dev", "--trusted-origins=https://a.example", "--trusted-origins", "https://b.example,", "--trusted-origins="},
			want: []string{`--trusted-origins "https://b.example,": has an empty entry between its commas (command line)`},
		},
		"a wrong entry beside one that is not shown": {
			args: []string{"--dev", "--trusted-origins=https://ok.example,https://a.example:443", "--trusted-origins=https://u:hunter2@x"},
			want: []string{
				`--trusted-origins: "https://a.example:443": browsers write this origin "https://a.example" (command line)`,
				`--trusted-origins: an origin is scheme, host and port, nothing more; one with a user or a query is there, which is not shown (command line)`,
			},
		},
		"entries of several lists that are no networks": {
			args: []string{"--dev", "--trusted-proxies=x", "--trusted-proxies=192.0.2.7", "--trusted-proxies=10.0.0.0/33"},
			want: []string{
				`--trusted-proxies "x": not a network such as 10.0.0.0/8 or 192.0.2.7: "x" (command line)`,
				`--trusted-proxies "10.0.0.0/33": not a network such as 10.0.0.0/8 or 192.0.2.7: "10.0.0.0/33" (command line)`,
			},
		},
		"empty where something must be": {
			args: []string{"--dev", "--cookie-name="}, want: []string{`--cookie-name "": must not be empty (command line)`},
		},
		"what has no effect, from everywhere": {
			args: strings.Fields(`--dev --users-file u --redis-cache-ttl 0s --redis-allow-eviction --fsync-every 0s --oidc-claims x=y
				--oidc-groups=`), // the last says no more than the default, and what only tunes a store may stand anywhere
			env: strings.Fields(`COATCHECK_REDIS_WAIT_REPLICAS=1 COATCHECK_OIDC_ISSUER=https://id.example
				COATCHECK_REDIS_CACHE_SIZE=1MiB COATCHECK_OIDC_ALLOW=`),
			file: "oidc-remote-user = \"email\"\nredis-prefix = \"x:\"\noidc-scopes = \"openid profile email\"\nredis-password-file = \"p\"\n",
			want: []string{
				`--oidc-claims "x=y": is for --login oidc, and --login is open (command line)`,
				`--oidc-issuer "https://id.example": is for --login oidc, and --login is open (COATCHECK_OIDC_ISSUER)`,
				`--oidc-remote-user "email": is for --login oidc, and --login is open (FILE)`,
				`--redis-allow-eviction "true": is for a --store of Redis only (command line)`,
				`--redis-password-file "p": is for a --store of Redis only (FILE)`,
				`--redis-wait-replicas "1": is for a --store of Redis only (COATCHECK_REDIS_WAIT_REPLICAS)`,
				`--users-file "u": is for --login users, and --login is open (command line)`,
			},
		},
		"what is the memory store's": {
			args: strings.Fields("--dev --store redis://127.0.0.1 --data-dir d --fsync-every 0s --max-sessions 1 --redis-timeout 1s"),
			want: []string{
				`--data-dir "d": is for --store memory only (command line)`,
				`--max-sessions "1": is for --store memory only (command line)`,
			},
		},
		"all that is wrong with Redis, each under its own name": {
			args: strings.Fields("--dev --store redis://127.0.0.1?foo=1&dial_timeout=x&addr=h&bar=2 --redis-timeout 4s"),
			env:  []string{"COATCHECK_REDIS_PREFIX={: must a}"},
			want: []string{
				`--redis-prefix "{: must a}": must not contain braces (COATCHECK_REDIS_PREFIX)`,
				`--redis-timeout "4s": must be between 0 and 3s (command line)`,
				`--store: redisstore: URL: "bar" is not one of the parameters ` + parameters + ` (value not shown; command line)`,
				`--store: redisstore: URL: dial_timeout must be above 0, as in 1s (value not shown; command line)`,
				`--store: redisstore: URL: "foo" is not one of the parameters ` + parameters + ` (value not shown; command line)`,
				`--store: redisstore: URL: addr="h" must be one host:port, with a port from 1 to 65535; each further server is an addr of its own (value not shown; command line)`,
			},
		},
		"what a mode needs": {
			args: strings.Fields("--login oidc --store redis://127.0.0.1"),
			want: []string{
				`--oidc-issuer: --login oidc needs it`,
				`--oidc-client-id: --login oidc needs it`,
				`--oidc-external-url: --login oidc needs it`,
				`--oidc-state-key-file: is needed with a Redis store: any node must be able to finish a login`,
			},
		},
		"not TOML": {
			args: []string{"--dev"}, file: "ttl = \"3m\"\nstore = memory\n",
			want: []string{`--config "FILE": line 2 (--store) is not TOML; text stands between quotes (command line)`},
		},
		"not TOML, and of no setting": {
			args: []string{"--dev"}, file: "ttl = \"3m\"\nstore memory\n",
			want: []string{`--config "FILE": line 2 is not TOML; text stands between quotes (command line)`},
		},
		"no time, in a file that names the login": {
			file: "login = \"open\"\nsessions-not-before = 2026-02-30T17:47:20Z\n",
			want: []string{`--config "FILE": line 2 (--sessions-not-before) has a date or a time that does not exist; text stands between quotes (command line)`},
		},
		"a duration as no time of a day": {
			args: []string{"--dev"}, file: "ttl = 24:00:00\n",
			want: []string{`--config "FILE": line 1 (--ttl) has a date or a time that does not exist; text stands between quotes (command line)`},
		},
		"a duration without quotes": {
			args: []string{"--dev"}, file: "rolling = true\nttl = 30m\n",
			want: []string{`--config "FILE": line 2 (--ttl) is not TOML; text stands between quotes (command line)`},
		},
		"more behind a value": {
			args: []string{"--dev"}, file: "\"ttl\"=\"3m\" x\n",
			want: []string{`--config "FILE": line 1 (--ttl) is not TOML; text stands between quotes (command line)`},
		},
		"text without its end": {
			args: []string{"--dev"}, file: "ttl = \"3m\nrolling = true\n",
			want: []string{`--config "FILE": line 1 (--ttl) is not TOML; text stands between quotes (command line)`},
		},
		"what an unreadable file may have held": {
			args: strings.Fields("--login users --ttl soon --redis-password-file p --tls-key k --admin-listen :9090"), file: "store = redis://r\n",
			want: []string{
				`--config "FILE": line 1 (--store) is not TOML; text stands between quotes (command line)`,
				`--ttl "soon": not a duration such as 500ms, 30m or 12h (command line)`,
			},
		},
		"a setting twice": {
			args: []string{"--dev"}, file: "ttl = \"3m\"\nttl = \"4m\"\n",
			want: []string{`--config "FILE": line 2 (--ttl) sets again what an earlier line has set (command line)`},
		},
		"not UTF-8": {
			args: []string{"--dev"}, file: "ttl = \"3m\"\nstore = \"\xff\"\n",
			want: []string{`--config "FILE": line 2 (--store) is not UTF-8 (command line)`},
		},
		"what a file must not hold": {
			args: []string{"--dev"}, file: "config = \"x\"\nmax-sessions = 1.5\n[ttl]\nx = 1\n[server]\nttl = \"3m\"\n",
			want: []string{
				`"config": no such setting (FILE)`,
				`"server": no such setting (FILE)`,
				"--max-sessions: must be text, a number, true or false, or a list of them (FILE)",
				"--ttl: must be text, a number, true or false, or a list of them (FILE)",
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			args, file := tt.args, ""
			if tt.file != "" {
				file = write(t, tt.file)
				args = append(args, "--config", file)
			}
			_, err := Load(args, tt.env)
			require.Error(t, err)
			var got []string
			for _, e := range Leaves(err) {
				got = append(got, strings.ReplaceAll(e.Error(), cmp.Or(file, "no file"), "FILE"))
			}
			assert.Equal(t, tt.want, got)
		})
	}
}

const parameters = "addr, client_cache, client_name, db, dial_timeout, master_set, max_retries, protocol, tls_ca, tls_cert, tls_key"

const loginMissing = `--login: must be named; "open" believes any user ID, --dev implies it`

// What a file's mistakes say in several lines is one bullet, whose further lines stand below its first.
func TestBullets(t *testing.T) {
	assert.Equal(t, "  a\n  b: c\n    d\n", Bullets(errors.Join(errors.New("a"), fmt.Errorf("b: %w", errors.Join(errors.New("c"), errors.New("d"))))))
}

func TestAMissingFileIsAMistake(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.toml")
	_, err := Load([]string{"--dev"}, []string{"COATCHECK_CONFIG=" + path})
	assert.EqualError(t, err, fmt.Sprintf(`--config %q: no such file or directory (COATCHECK_CONFIG)`, path))
}

// A server whose cookie a browser would not store, or would treat as less than it says, must not start.
func TestContradictoryCookies(t *testing.T) {
	for _, args := range []string{
		"--cookie-name __Host-sid --cookie-domain example.com",
		"--cookie-name __Host-sid --cookie-path /app",
		"--cookie-name __Host-sid --cookie-secure=false",
		"--cookie-name __Secure-sid --cookie-secure=false",
		"--cookie-name __Http-sid --cookie-http-only=false",
		"--cookie-name __Host-Http-sid --cookie-http-only=false",
		"--cookie-name sid --cookie-same-site none --cookie-secure=false",
		"--cookie-name s;id",
		"--cookie-name __host-sid",
		"--cookie-name " + strings.Repeat("x", 4096),
	} {
		t.Run(args[:min(len(args), 70)], func(t *testing.T) {
			_, err := Load(append(strings.Fields(args), "--login=open"), nil)
			require.Error(t, err)
			for _, e := range Leaves(err) {
				assert.Regexp(t, `^--cookie-.*\(command line\)$`, e.Error())
			}
		})
	}
}

func TestContradictoryBindings(t *testing.T) {
	for args, ok := range map[string]bool{
		"--dbsc": true, "--dbsc --dbsc-ttl 1s": true, "--dbsc --dbsc-ttl 999ms": false, "--dbsc-ttl 0.5s": false, "--dbsc-ttl 0s": false,
		"--dbsc --cookie-name sid --cookie-secure=false": false, "--dbsc --cookie-name sid --cookie-domain example.com": false,
		"--dbsc --dev": false, "--cookie-name sid --cookie-secure=false": true,
	} {
		_, err := Load(append(strings.Fields(args), "--login=open"), nil)
		if ok {
			assert.NoError(t, err, args)
			continue
		}
		require.Error(t, err, args)
		for _, e := range Leaves(err) {
			assert.Regexp(t, `^--dbsc.*\((command line|default)\)$`, e.Error())
		}
	}
}

func TestNoSecretIsPrinted(t *testing.T) {
	const url = "redis://user:s3cret@redis.example:6379?skip_verify=true"
	tests := map[string]struct {
		args, env []string
		file      string
	}{
		"flag":                       {args: []string{"--store", url}},
		"environment":                {env: []string{"COATCHECK_STORE=" + url}},
		"file":                       {file: "store = \"" + url + "\"\n"},
		"webhook":                    {args: []string{"--webhook-url=https://x:s3cret@hook.example"}},
		"login page":                 {args: []string{"--verify-login-url=http://login.example/?key=s3cret"}},
		"misspelled flag":            {args: []string{"--stor=" + url}},
		"misspelled flag, apart":     {args: []string{"--stor", url}},
		"one dash":                   {args: []string{"-store=" + url}},
		"one dash, glued":            {args: []string{"-ps3cret"}},
		"one dash, with an h":        {args: []string{"-ps3cret-h"}},
		"no flag":                    {args: []string{url}},
		"bad syntax":                 {args: []string{"--=" + url}},
		"glued to the flag":          {args: []string{"--store:" + url}},
		"no quotes in the file":      {file: "store = " + url + "\n"},
		"bare word in the file":      {file: "store = s3cret\n"},
		"no equals in the file":      {file: "store s3cret\n"},
		"open quote in the file":     {file: "store = \"s3cret\n"},
		"twice in the file":          {file: "store = \"s3cret\"\nstore = \"s3cret\"\n"},
		"bad escape in the file":     {file: `store = "\hs3cret"`},
		"table in the file":          {file: "[store]\nurl = \"s3cret\"\n"},
		"misspelled key in the file": {file: "stor = \"s3cret\"\n"},
		"misspelled variable":        {env: []string{"COATCHECK_STOR=" + url}, args: []string{"--ttl=x"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"--dev"}, tt.args...)
			if tt.file != "" {
				args = append(args, "--config", write(t, tt.file))
			}
			c, err := Load(args, tt.env)
			require.Error(t, err)
			assert.NotContains(t, err.Error(), "s3cret")
			assert.NotContains(t, strings.Join(c.Notes, "\n"), "s3cret")
		})
	}
}
