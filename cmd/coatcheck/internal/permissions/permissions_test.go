package permissions_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/permissions"
)

// moded makes a file with this mode, whatever the umask, in a folder with that one.
func moded(t *testing.T, mode, folder os.FileMode) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "dir")
	require.NoError(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Chmod(path, mode))
	require.NoError(t, os.Chmod(dir, folder))
	return path
}

func TestFiles(t *testing.T) {
	every := map[string]func(*config.Config, string){
		"config":                  func(c *config.Config, path string) { c.File, c.SecretFile = path, path },
		"login-key-file":          func(c *config.Config, path string) { c.LoginKeyFile = path },
		"users-file":              func(c *config.Config, path string) { c.UsersFile = path },
		"oidc-client-secret-file": func(c *config.Config, path string) { c.OIDC.SecretFile = path },
		"oidc-state-key-file":     func(c *config.Config, path string) { c.OIDC.StateKeyFile = path },
		"admin-key-file":          func(c *config.Config, path string) { c.AdminKeyFile = path },
		"redis-password-file":     func(c *config.Config, path string) { c.RedisPasswordFile = path },
		"tls-key":                 func(c *config.Config, path string) { c.TLSKey = path },
	}
	public := map[string]func(*config.Config, string){
		"config":       func(c *config.Config, path string) { c.File = path },
		"oidc-ca-file": func(c *config.Config, path string) { c.OIDC.CAFile = path },
		"tls-cert":     func(c *config.Config, path string) { c.TLSCert = path },
	}
	for _, tt := range []struct {
		mode, folder os.FileMode
		secret, open permissions.Level
		text         string
	}{
		{0o600, 0o700, permissions.Fine, permissions.Fine, "not open"},
		{0o640, 0o755, permissions.Fine, permissions.Fine, "not open"},
		{0o440, os.ModeSticky | 0o777, permissions.Fine, permissions.Fine, "not open"},
		{0o644, 0o755, permissions.Problem, permissions.Fine, ""},
		{0o604, 0o755, permissions.Problem, permissions.Fine, ""},
		{0o660, 0o755, permissions.Warning, permissions.Warning, "the group"},
		{0o664, 0o755, permissions.Problem, permissions.Warning, ""},
		{0o666, 0o755, permissions.Problem, permissions.Problem, "can change"},
		{0o602, 0o700, permissions.Problem, permissions.Problem, "can change"},
		{0o600, 0o777, permissions.Problem, permissions.Problem, "in the place of"},
	} {
		path := moded(t, tt.mode, tt.folder)
		judge := func(settings map[string]func(*config.Config, string), want permissions.Level) {
			for name, set := range settings {
				c := new(config.Config)
				set(c, path)
				found := permissions.Judge(c)
				require.Len(t, found, 1, name)
				assert.Equal(t, name, found[0].Setting)
				assert.Equal(t, want, found[0].Level, "%s %v in %v: %s", name, tt.mode, tt.folder, found[0].Text)
				assert.Contains(t, found[0].Text, tt.text)
				if want == permissions.Fine {
					assert.Empty(t, permissions.Notes(c))
				} else {
					assert.Equal(t, []string{"--" + name + ": " + found[0].Text}, permissions.Notes(c))
				}
			}
		}
		judge(every, tt.secret)
		judge(public, tt.open)
	}
	found := permissions.Judge(&config.Config{TLSKey: "/nowhere/key"})
	require.Len(t, found, 1)
	assert.Equal(t, permissions.Problem, found[0].Level)
	assert.Contains(t, found[0].Text, "no such file")
}

func TestDataDir(t *testing.T) {
	for _, tt := range []struct {
		file, dir os.FileMode
		want      permissions.Level
	}{
		{0o600, 0o700, permissions.Fine},
		{0o600, 0o755, permissions.Fine}, // others see names, and read nothing
		{0o600, 0o777, permissions.Problem},
		{0o600, os.ModeSticky | 0o777, permissions.Problem}, // a journal of somebody else's
		{0o644, 0o755, permissions.Problem},
		{0o602, 0o700, permissions.Problem},
		{0o600, 0o770, permissions.Warning},
		{0o600, os.ModeSetgid | 0o775, permissions.Warning}, // a volume of Kubernetes with fsGroup
	} {
		dir := filepath.Dir(moded(t, tt.file, tt.dir))
		found := permissions.Judge(&config.Config{DataDir: dir})
		require.Len(t, found, 1)
		assert.Equal(t, tt.want, found[0].Level, "%v in %v: %s", tt.file, tt.dir, found[0].Text)
	}
	assert.Empty(t, permissions.Judge(&config.Config{DataDir: "/nowhere"}))
}
