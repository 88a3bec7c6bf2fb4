package credentials_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
	"github.com/coatcheck/coatcheck/server/login"
)

func TestRedisPasswordFile(t *testing.T) {
	for name, tt := range map[string]struct{ content, url, mistake string }{
		"a line":            {content: "s3cret of mine\n", url: "redis://:s3cret%20of%20mine@127.0.0.1:1"},
		"no line break":     {content: "s3cret", url: "redis://:s3cret@127.0.0.1:1"},
		"CRLF":              {content: "s3cret\r\n", url: "redis://:s3cret@127.0.0.1:1"},
		"empty":             {content: "", mistake: "holds no password"},
		"a line break":      {content: "\n", mistake: "holds no password"},
		"two lines":         {content: "s3cret\ns3cret\n", mistake: "on one line"},
		"NUL":               {content: "s3cret\x00", mistake: "on one line"},
		"too long":          {content: strings.Repeat("s3cret", 1000), mistake: "on one line"},
		"the sample's":      {content: "PASSWORD\n", mistake: "a placeholder"},
		"another's sample":  {content: "change-me", mistake: "a placeholder"},
		"only half a place": {content: "password1\n", url: "redis://:password1@127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "password")
			require.NoError(t, os.WriteFile(file, []byte(tt.content), 0o600))
			c, err := config.Load([]string{"--dev", "--store=redis://127.0.0.1:1", "--redis-password-file", file}, nil)
			require.NoError(t, err)
			_, err = credentials.Open(c, login.UsersOptions{})
			if tt.mistake == "" {
				require.NoError(t, err)
				assert.Equal(t, tt.url, c.Redis.URL)
				return
			}
			require.ErrorContains(t, err, tt.mistake)
			assert.ErrorContains(t, err, "--redis-password-file")
			assert.NotContains(t, err.Error(), "s3cret")
		})
	}
	err := wrong("--dev", "--store=redis://127.0.0.1:1", "--redis-password-file=/nowhere/file")
	require.ErrorContains(t, err, "no such file")
}
