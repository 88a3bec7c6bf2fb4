package login_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/login"
)

// base64 of n bytes.
func bytes64(n int) string {
	return base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("s", n)))
}

// AUT-03: what a users file may hold, and what it may not.
func TestPHC(t *testing.T) {
	salt, tag := bytes64(16), bytes64(32)
	hash := func(params string) string { return "$argon2id$v=19$" + params + "$" + salt + "$" + tag }
	for _, s := range []string{
		hash("m=19456,t=2,p=1"),
		hash("m=65536,t=3,p=4"),
		hash("m=47104,t=1,p=1"),
		hash("m=8,t=1,p=1"),
		hash("m=128,t=1,p=16"),
		hash("m=262144,t=16,p=16"),
		"$argon2id$v=19$m=19456,t=2,p=1$" + bytes64(8) + "$" + bytes64(16),
		"$argon2id$v=19$m=19456,t=2,p=1$" + bytes64(64) + "$" + bytes64(64),
	} {
		again, err := login.ParsePHC(s)
		require.NoError(t, err, s)
		assert.Equal(t, s, again)
	}
	for _, tc := range []struct{ name, hash, wrong string }{
		{"most memory there is", hash("m=4294967295,t=2,p=1"), "m=4294967295"},
		{"memory over the ceiling", hash("m=262145,t=2,p=1"), "m=262145"},
		{"memory beyond 32 bits", hash("m=4294967296,t=2,p=1"), "32-bit"},
		{"memory beyond 64 bits", hash("m=99999999999999999999,t=2,p=1"), "32-bit"},
		{"memory that the lanes do not fit", hash("m=15,t=2,p=2"), "m=15"},
		{"no memory", hash("m=0,t=2,p=1"), "m=0"},
		{"time over the ceiling", hash("m=19456,t=17,p=1"), "t=17"},
		{"most time there is", hash("m=19456,t=4294967295,p=1"), "t=4294967295"},
		{"no time, at which argon2 panics", hash("m=19456,t=0,p=1"), "t=0"},
		{"threads over the ceiling", hash("m=19456,t=2,p=17"), "p=17"},
		{"threads that wrap to 1 in a byte", hash("m=19456,t=2,p=257"), "p=257"},
		{"threads for which 8 times wraps", hash("m=19456,t=2,p=536870913"), "p=536870913"},
		{"no threads, at which argon2 panics", hash("m=19456,t=2,p=0"), "p=0"},
		{"negative", hash("m=-1,t=2,p=1"), "32-bit"},
		{"a sign", hash("m=+19456,t=2,p=1"), "32-bit"},
		{"a leading zero", hash("m=019456,t=2,p=1"), "canonical"},
		{"not decimal", hash("m=0x10,t=2,p=1"), "32-bit"},
		{"another order", hash("t=2,m=19456,p=1"), "m=…"},
		{"a parameter more", hash("m=19456,t=2,p=1,keyid=x"), "m=…"},
		{"a parameter less", hash("m=19456,t=2"), "m=…"},
		{"trailing text in a parameter", hash("m=19456,t=2,p=1x"), "32-bit"},
		{"argon2i", strings.Replace(hash("m=19456,t=2,p=1"), "2id", "2i", 1), "only argon2id"},
		{"argon2d", strings.Replace(hash("m=19456,t=2,p=1"), "2id", "2d", 1), "only argon2id"},
		{"old version", strings.Replace(hash("m=19456,t=2,p=1"), "v=19", "v=16", 1), "version 19"},
		{"no version", strings.Replace(hash("m=19456,t=2,p=1"), "$v=19", "", 1), "form"},
		{"short salt", "$argon2id$v=19$m=19456,t=2,p=1$" + bytes64(7) + "$" + tag, "salt must be"},
		{"long salt", "$argon2id$v=19$m=19456,t=2,p=1$" + bytes64(65) + "$" + tag, "salt must be"},
		{"no salt", "$argon2id$v=19$m=19456,t=2,p=1$$" + tag, "salt must be"},
		{"short hash", "$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + bytes64(15), "hash must be"},
		{"empty hash, which everything would match", "$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$", "hash must be"},
		{"long hash", "$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + bytes64(65), "hash must be"},
		{"padding", "$argon2id$v=19$m=19456,t=2,p=1$" + salt + "==$" + tag, "salt must be"},
		{"bits left over", "$argon2id$v=19$m=19456,t=2,p=1$" + salt[:len(salt)-1] + "x$" + tag, "salt must be"},
		{"a line break within", "$argon2id$v=19$m=19456,t=2,p=1$" + salt[:4] + "\r" + salt[4:] + "$" + tag, "canonical"},
		{"a part more", hash("m=19456,t=2,p=1") + "$", "form"},
		{"nothing", "", "form"},
		{"dollars", "$$$$$", "only argon2id"},
		{"a password", "hunter2", "form"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := login.ParsePHC(tc.hash)
			require.ErrorContains(t, err, tc.wrong)
			assert.NotContains(t, err.Error(), bytes64(6), "an error shows neither salt nor hash")
			assert.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func FuzzPHC(f *testing.F) {
	f.Add(login.CheapHash("x"))
	f.Add("$argon2id$v=19$m=4294967295,t=4294967295,p=255$" + bytes64(16) + "$" + bytes64(32))
	f.Add("$argon2id$v=19$m=019456,t=2,p=1$" + bytes64(16) + "$" + bytes64(32))
	f.Fuzz(func(t *testing.T, s string) {
		again, err := login.ParsePHC(s)
		if err == nil {
			assert.Equal(t, s, again, "there is one way to write a hash")
		}
	})
}

func TestHashPassword(t *testing.T) {
	hash, err := login.HashPassword([]byte("correct horse"))
	require.NoError(t, err)
	assert.Regexp(t, `^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`, hash)
	again, err := login.HashPassword([]byte("correct horse"))
	require.NoError(t, err)
	assert.NotEqual(t, hash, again, "the salt is random")

	_, err = login.HashPassword(nil)
	assert.ErrorContains(t, err, "empty")
	_, err = login.HashPassword(make([]byte, login.MaxPassword+1))
	assert.ErrorContains(t, err, "more than 4096 bytes")
	_, err = login.HashPassword([]byte("K\xe4se-2026"))
	assert.ErrorContains(t, err, "not UTF-8", "no login can have it: its body is UTF-8")
}

func TestUsersLine(t *testing.T) {
	line, err := login.UsersLine("ann:x", []byte("pass"), login.Fields{})
	require.NoError(t, err)
	users, err := login.NewUsers(writeFile(t, line), login.UsersOptions{})
	require.NoError(t, err)
	name, err := users.Check(t.Context(), &login.Attempt{UserID: "Ann:X", Password: []byte("pass")})
	require.NoError(t, err)
	assert.Equal(t, "ann:x", name)
	for _, name := range []string{"", " ann", "ann ", "#ann", "a\nb", "a\x00b", "\xff", strings.Repeat("n", 257), "ann:" + line[6:]} {
		_, err := login.UsersLine(name, []byte("pass"), login.Fields{})
		assert.Error(t, err, "%q", name)
	}
}
