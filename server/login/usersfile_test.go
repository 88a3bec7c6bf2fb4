package login_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/coatcheck/coatcheck/server/login"
)

// bcryptHash returns a hash of the lowest cost.
func bcryptHash(t testing.TB, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	require.NoError(t, err)
	return string(hash)
}

func TestUsersFile(t *testing.T) {
	a, b := login.CheapHash("a"), bcryptHash(t, "b")
	for _, tc := range []struct {
		name, file string
		want       map[string]string
		wrong      []string
	}{
		{name: "empty", file: "", wrong: []string{"users: holds no user"}},
		{name: "comments only", file: "# ann:" + a + "\n\n", wrong: []string{"users: holds no user"}},
		{name: "users", file: "ann:" + a + "\nbob:" + b, want: map[string]string{"ann": a, "bob": b}},
		{name: "disabled, with and without a password", file: "ann:!" + a + "\nbob:!\n", want: map[string]string{"ann": "!" + a, "bob": "!"}},
		{name: "without a password", file: "ann:\n", want: map[string]string{"ann": ""}},
		{
			name: "comments, empty lines, CRLF, indentation, byte order mark", file: "\ufeffann:" + a + "\r\n# bob:" + b + "\r\n\r\n\t#\n  bob:" + b + " \r\n",
			want: map[string]string{"ann": a, "bob": b},
		},
		{name: "a name with colons and spaces, as it stands", file: "urn:Ann Lee:1:" + a, want: map[string]string{"urn:Ann Lee:1": a}},
		{
			name: "other prefixes of bcrypt", file: "a:$2a" + b[3:] + "\nb:$2b" + b[3:] + "\nc:$2y" + b[3:],
			want: map[string]string{"a": "$2a" + b[3:], "b": "$2b" + b[3:], "c": "$2y" + b[3:]},
		},

		{name: "no colon", file: "hunter2\n", wrong: []string{"users:1: not of the form"}},
		{name: "no name", file: ":" + a, wrong: []string{`users:1: user "": a user ID must not be empty`}},
		{name: "a password in clear", file: "ann:" + a + "\nbob:hunter2", wrong: []string{`users:2: user "bob": not of the form`}},
		{name: "another scheme", file: "ann:{SHA}hunter2\nbob:$apr1$hunter2$x\ncee:$5$hunter2$x", wrong: []string{`user "ann"`, `user "bob"`, `user "cee"`}},
		{name: "disabled with a broken hash", file: "ann:!hunter2", wrong: []string{`user "ann"`}},
		{name: "over a ceiling", file: "ann:$argon2id$v=19$m=4294967295,t=2,p=1$" + bytes64(16) + "$" + bytes64(32), wrong: []string{`users:1: user "ann": m=4294967295`}},
		{name: "bcrypt of too high a cost", file: "ann:" + strings.Replace(b, "$04$", "$15$", 1), wrong: []string{`user "ann": bcrypt of cost 15`}},
		{name: "bcrypt of too low a cost", file: "ann:" + strings.Replace(b, "$04$", "$03$", 1), wrong: []string{`user "ann": bcrypt of cost 03`}},
		{name: "bcrypt that is too long, or short", file: "ann:" + b + "x\nbob:" + b[1:] + "\ncee:" + b[:59], wrong: []string{"users:1: ", "users:2: ", "users:3: "}},
		{name: "broken bcrypt of another letter", file: "ann:$2x" + b[3:], wrong: []string{`user "ann": a bcrypt hash`}},
		{name: "spaces around the colon", file: "ann :" + a, wrong: []string{`user "ann ": a name must not begin or end`}},
		{name: "control characters", file: "a\x1b[2Jnn:" + a, wrong: []string{`user "a\x1b[2Jnn"`}},
		{name: "not UTF-8", file: "a\xff:" + a, wrong: []string{`user "a\xff"`}},
		{name: "too long a name", file: strings.Repeat("n", 257) + ":" + a, wrong: []string{"257 bytes"}},
		{name: "twice", file: "ann:" + a + "\nann:" + b, wrong: []string{`users:2: user "ann": is the same as "ann" of line 1`}},
		{name: "a colon behind a field", file: "ann:" + a + " name=Ann:", wrong: []string{`users:1: user "ann": the name holds what looks like a hash`, "%3A for a colon"}},
		{name: "a colon at the end of a field that is not the last", file: "ann:" + a + " groups=urn:a: name=x", wrong: []string{`users:1: user "ann": `, "%3A for a colon"}},
		{name: "a colon behind the hash", file: "ann:" + a + ":\nbob:" + b + ":!\ncee:!" + a + ":", wrong: []string{`1: user "ann": `, `2: user "bob": `, `3: user "cee": `}},
		{name: "a colon behind the password", file: "ann:hunter2:\nbob:{SHA}hunter2:!", wrong: []string{`1: user "ann": a name with a colon must have a hash`, `2: user "bob": `}},
		{name: "of /etc/shadow", file: "ann:$y$j9T$hunter2$hunter2:19700:0:99999:7:::", wrong: []string{`users:1: user "ann": the name holds`}},
		{name: "two hashes", file: "ann:" + b + ":" + a, wrong: []string{`users:1: user "ann": the name holds`}},
		{name: "two users in a line", file: "ann:" + b + "\u2028bob:" + a + "\ncee:" + b + " dan:" + a, wrong: []string{`users:1: user "ann": `, `users:2: user "cee": `}},
		{name: "a space in place of the colon", file: "ann " + b + ":\nbob " + b + " name=x:$y", wrong: []string{`users:1: user "ann ": `, `users:2: user "bob ": `}},
		{name: "twice, with a password in the name", file: "ann:hunter2:" + a + "\nann:hunter2:" + a, wrong: []string{`users:2: user "ann": is the same as "ann" of line 1`}},
		{name: "no hash in a name with a dollar sign", file: "PC01$:" + a + "\nPC02$:", want: map[string]string{"PC01$": a, "PC02$": ""}},
		{name: "an alias", file: "# \nann:" + a + "\nＡＮＮ:!", wrong: []string{`users:3: user "ＡＮＮ": is the same as "ann" of line 2`}},
		{name: "all mistakes at once", file: "ann:x\nbob:" + b + "\ncee\n:y\n", wrong: []string{"users:1: ", "users:3: ", "users:4: "}},
		{name: "a wrong file does not fill the terminal", file: strings.Repeat("hunter2\n", 5000), wrong: []string{"users:20: ", "and 4980 more"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			users, err := login.ParseUsers([]byte(tc.file))
			if tc.wrong == nil {
				require.NoError(t, err)
				assert.Equal(t, tc.want, users)
				return
			}
			require.Error(t, err)
			for _, part := range tc.wrong {
				assert.ErrorContains(t, err, part)
			}
			for _, secret := range []string{"hunter2", b[7:20], a[30:], bytes64(6)} {
				assert.NotContains(t, err.Error(), secret, "an error shows no hash, and no password that stands in its place")
			}
		})
	}
}

func TestWithHash(t *testing.T) {
	for _, tc := range []struct{ name, data, want string }{
		{"the line alone", "# ann:old\n ann:old \r\nbob:old\n", "# ann:old\n ann:new \r\nbob:old\n"},
		{"without a line break, behind a byte order mark", "\ufeffann:old", "\ufeffann:new"},
		{"a name that holds the hash", "old:old\nann:old", "old:old\nann:new"},
		{"changed by hand", "ann:other\n", ""},
		{"disabled by hand", "ann:!old\n", ""},
		{"removed by hand", "bob:old\n", ""},
		{"renamed by hand", "Ann:old\n", ""},
		{"there twice by hand", "ann:old\nann:old\n", ""},
		{"commented out by hand", "#ann:old\n", ""},
		{"emptied by hand", "", ""},
	} {
		next, ok := login.WithHash([]byte(tc.data), "ann", "old", "new")
		assert.Equal(t, tc.want != "", ok, tc.name)
		if ok {
			assert.Equal(t, tc.want, string(next), tc.name)
		}
	}
	next, ok := login.WithHash([]byte("old:x\nann:old\n"), "old", "x", "y")
	assert.True(t, ok)
	assert.Equal(t, "old:y\nann:old\n", string(next))
}

func FuzzUsersFile(f *testing.F) {
	a, b := login.CheapHash("a"), bcryptHash(f, "b")
	for _, file := range []string{
		"", "ann:" + a + "\nbob:!" + b + "\n", "\ufeff# x\r\n\r\nann:\r\n", "a:b:" + a, "ann:!\nANN:!", ":::", "\xff:" + a, "ann:!!" + a, "ann:" + b + "\x00",
	} {
		f.Add([]byte(file))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		users, err := login.ParseUsers(file)
		if err != nil {
			assert.Nil(t, users)
			return
		}
		canonical := make(map[string]string, len(users))
		for name, hash := range users {
			if other, ok := canonical[login.Canonical(name)]; ok {
				t.Fatalf("%q and %q are the same", name, other)
			}
			canonical[login.Canonical(name)] = name
			// Every user that was read can be found again, and that user's hash can be replaced, and nothing else changes.
			next, ok := login.WithHash(file, name, hash, b)
			if !ok {
				t.Fatalf("%q with hash %q is not found", name, hash)
			}
			after, err := login.ParseUsers(next)
			require.NoError(t, err)
			require.Len(t, after, len(users))
			for n, h := range users {
				if n == name {
					h = b
				}
				assert.Equal(t, h, after[n])
			}
		}
	})
}
