package login_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/login"
)

// writeFile writes a file of the test's own and returns its name.
func writeFile(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

const (
	keyA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaA"
	keyB = "a-longer-key-with-+/=._~-signs-0123456789"
)

func TestKeyFile(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		wrong      []string // parts of the error; nil: the file is good
	}{
		{name: "one key", file: keyA},
		{name: "comments, empty lines, spaces around, CRLF", file: "# the old one\r\n\r\n  " + keyA + "  \r\n" + keyB + "\r\n"},
		{name: "no key", file: "# nothing\n\n", wrong: []string{": holds no key"}},
		{name: "empty", file: "", wrong: []string{": holds no key"}},
		{name: "too short", file: keyA + "\n" + keyA[1:], wrong: []string{":2: a key of 31 characters"}},
		{name: "a sample's placeholder", file: keyA + "\nA-KEY-OF-YOUR-OWN-FROM-openssl-rand-hex-32\n", wrong: []string{":2: a placeholder"}},
		{name: "another placeholder", file: "change_me_change_me_change_me_please\n", wrong: []string{":1: a placeholder"}},
		{name: "too long", file: strings.Repeat("k", 1025), wrong: []string{":1: a key of 1025 characters"}},
		{name: "a space within", file: "secretsecretsecret secretsecretsecret", wrong: []string{":1: a key must be printable"}},
		{name: "not ASCII", file: strings.Repeat("ü", 32), wrong: []string{":1: a key must be printable"}},
		{name: "twice", file: keyA + "\n#\n" + keyA, wrong: []string{":3: the key of line 1 again"}},
		{name: "all mistakes at once", file: "brief\n" + keyA + "\nsecret\n", wrong: []string{":1: ", ":3: "}},
		{name: "a wrong file does not fill the terminal", file: strings.Repeat("brief\n", 1000), wrong: []string{":20: ", "and 980 more"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := writeFile(t, tc.file)
			_, err := login.LoadKeys(file)
			if tc.wrong == nil {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			for _, part := range tc.wrong {
				if part[0] == ':' {
					part = file + part
				}
				assert.ErrorContains(t, err, part)
			}
			assert.NotContains(t, err.Error(), "secret", "an error shows no key")
			assert.NotContains(t, err.Error(), "brief")
			assert.NotContains(t, err.Error(), "aaaa")
		})
	}
	_, err := login.LoadKeys(filepath.Join(t.TempDir(), "absent"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestKeysMatch(t *testing.T) {
	keys, err := login.LoadKeys(writeFile(t, keyA+"\n"+keyB+"\n"))
	require.NoError(t, err)
	for _, tc := range []struct {
		header string
		want   bool
	}{
		{"Bearer " + keyA, true},
		{"Bearer " + keyB, true},
		{"bearer " + keyB, true},
		{"BEARER  " + keyB, true},
		{"", false},
		{"Bearer", false},
		{"Bearer ", false},
		{keyA, false},
		{"Basic " + keyA, false},
		{"Bearer" + keyA, false},
		{"Bearer " + keyA[:31], false},
		{"Bearer " + keyA + "x", false},
		{"Bearer " + strings.ToLower(keyA), false},
		{"Bearer " + keyA + "," + keyB, false},
		{"Bearer " + keyA + "\n" + keyB, false},
		{" Bearer " + keyA, false},
	} {
		assert.Equal(t, tc.want, keys.Match([]byte(tc.header)), "%q", tc.header)
	}
	assert.False(t, keys.Match(nil))
}

// OPS-05: several keys are good at once, and removing one invalidates only what was signed in with it.
func TestKeyRotation(t *testing.T) {
	file := writeFile(t, keyA)
	trusted, err := login.NewTrusted(file)
	require.NoError(t, err)
	admitted := func(key string) bool {
		t.Helper()
		user, err := trusted.Check(context.Background(), &login.Attempt{UserID: "Ann", Authorization: []byte("Bearer " + key)})
		if err == nil {
			assert.Equal(t, "Ann", user, "as the back end said it")
			return true
		}
		assert.ErrorIs(t, err, login.ErrRefused)
		assert.Empty(t, user)
		return false
	}
	assert.Equal(t, []bool{true, false}, []bool{admitted(keyA), admitted(keyB)})

	require.NoError(t, os.WriteFile(file, []byte(keyA+"\n"+keyB), 0o600))
	assert.False(t, admitted(keyB), "not before the file is read again")
	require.NoError(t, trusted.Reload())
	assert.Equal(t, []bool{true, true}, []bool{admitted(keyA), admitted(keyB)})

	require.NoError(t, os.WriteFile(file, []byte("# empty by accident"), 0o600))
	require.Error(t, trusted.Reload())
	require.NoError(t, os.Remove(file))
	require.Error(t, trusted.Reload())
	assert.Equal(t, []bool{true, true}, []bool{admitted(keyA), admitted(keyB)}, "the old keys stay")

	require.NoError(t, os.WriteFile(file, []byte(keyB), 0o600))
	require.NoError(t, trusted.Reload())
	assert.Equal(t, []bool{false, true}, []bool{admitted(keyA), admitted(keyB)})
}
