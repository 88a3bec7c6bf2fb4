package credentials_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/certificate/certtest"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
	"github.com/coatcheck/coatcheck/server/login"
)

func TestCertificateMistakes(t *testing.T) {
	ca, good := certtest.New(t), certtest.NewFiles(t)
	cert, key, _ := ca.Issue(t, time.Now().Add(time.Hour))
	good.Write(t, cert, key)
	other := certtest.NewFiles(t)
	_, otherKey, _ := ca.Issue(t, time.Now().Add(time.Hour))
	other.Write(t, []byte("no PEM"), otherKey)
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"only a certificate": {[]string{"--tls-cert", good.Cert}, "--tls-key: --tls-cert needs it"},
		"only a key":         {[]string{"--tls-key", good.Key}, "--tls-cert: --tls-key needs it"},
		"no such file": {
			[]string{"--tls-cert=/nowhere/tls.crt", "--tls-key", good.Key},
			`--tls-cert "/nowhere/tls.crt": open /nowhere/tls.crt: no such file or directory (command line)`,
		},
		"no such key": {
			[]string{"--tls-cert", good.Cert, "--tls-key=/nowhere/tls.key"},
			`--tls-key "/nowhere/tls.key": open /nowhere/tls.key: no such file or directory (command line)`,
		},
		"a directory":          {[]string{"--tls-cert", filepath.Dir(good.Cert), "--tls-key", good.Key}, "is a directory"},
		"no PEM":               {[]string{"--tls-cert", other.Cert, "--tls-key", good.Key}, "holds no certificate in PEM"},
		"a key as well":        {[]string{"--tls-cert", good.Key, "--tls-key", good.Key}, "holds no certificate in PEM"},
		"a certificate as key": {[]string{"--tls-cert", good.Cert, "--tls-key", good.Cert}, "found a certificate rather than a key"},
		"another's key":        {[]string{"--tls-cert", good.Cert, "--tls-key", other.Key}, "--tls-key"},
	} {
		t.Run(name, func(t *testing.T) {
			err := wrong(append([]string{"--dev"}, tt.args...)...)
			require.ErrorContains(t, err, tt.want)
			assert.Equal(t, 1, strings.Count(config.Bullets(err), "\n"), "one mistake")
			assert.NotContains(t, err.Error(), "PRIVATE")
		})
	}
	err := wrong("--dev", "--tls-cert=/nowhere/tls.crt", "--tls-key=/nowhere/tls.key")
	assert.Equal(t, `  --tls-cert "/nowhere/tls.crt": open /nowhere/tls.crt: no such file or directory (command line)
  --tls-key "/nowhere/tls.key": open /nowhere/tls.key: no such file or directory (command line)
`, config.Bullets(err), "both are told")
	err = wrong("--dev", "--tls-cert", good.Cert, "--tls-key", other.Key)
	require.ErrorContains(t, err, good.Cert)
	require.ErrorContains(t, err, "private key does not match public key")

	expired := certtest.NewFiles(t)
	cert, key, _ = ca.Issue(t, time.Now().Add(-time.Hour))
	expired.Write(t, cert, key)
	c, err := config.Load(append([]string{"--dev"}, expired.Flags()...), nil)
	require.NoError(t, err)
	o, err := credentials.Open(c, login.UsersOptions{})
	require.NoError(t, err)
	require.Len(t, o.Notes, 1)
	assert.Contains(t, o.Notes[0], "the certificate in --tls-cert expired on ")
}

// Hashes of different costs tell who is a user, so doctor and the log say so.
func TestUsersNote(t *testing.T) {
	line, err := login.UsersLine("ann", []byte("pass"), login.Fields{})
	require.NoError(t, err)
	costly := strings.Replace(strings.Replace(line, "ann", "bob", 1), "t=2", "t=3", 1)
	for lines, want := range map[string]int{line: 0, line + "\n" + costly: 1} {
		file := filepath.Join(t.TempDir(), "users")
		require.NoError(t, os.WriteFile(file, []byte(lines+"\n"), 0o600))
		c, err := config.Load([]string{"--login=users", "--users-file", file}, nil)
		require.NoError(t, err)
		o, err := credentials.Open(c, login.UsersOptions{})
		require.NoError(t, err)
		require.Len(t, o.Notes, want)
		if want > 0 {
			assert.Contains(t, o.Notes[0], "users file "+file+": its argon2id hashes have 2 different costs")
			assert.Contains(t, o.Notes[0], "not of m=19456,t=")
		}
	}
}

// wrong returns the mistakes that serve would tell.
func wrong(args ...string) error {
	c, err := config.Load(args, nil)
	_, mistakes := credentials.Open(c, login.UsersOptions{})
	return errors.Join(err, mistakes)
}
