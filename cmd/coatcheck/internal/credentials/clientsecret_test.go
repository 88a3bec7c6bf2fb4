package credentials_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
	"github.com/coatcheck/coatcheck/server/login"
)

func TestClientSecretFile(t *testing.T) {
	for name, tt := range map[string]struct{ content, mistake string }{
		"a line":       {content: "s3cret\n"},
		"empty":        {content: "\n", mistake: "holds no secret"},
		"two lines":    {content: "s3cret\ns3cret\n", mistake: "on one line"},
		"the sample's": {content: "your-secret\n", mistake: "a placeholder"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "secret")
			require.NoError(t, os.WriteFile(file, []byte(tt.content), 0o600))
			c, err := config.Load([]string{
				"--login=oidc", "--oidc-issuer=http://localhost:1", "--oidc-client-id=coatcheck", "--oidc-external-url=http://localhost:3000",
				"--oidc-client-secret-file", file,
			}, nil)
			require.NoError(t, err)
			_, err = credentials.Open(c, login.UsersOptions{})
			if tt.mistake == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.mistake)
			assert.ErrorContains(t, err, "--oidc-client-secret-file")
			assert.NotContains(t, err.Error(), "s3cret")
		})
	}
}
