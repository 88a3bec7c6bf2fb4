package credentials_test

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
	"github.com/coatcheck/coatcheck/server/login"
)

// Whatever setting has a URL as its value, right or wrong there, and wherever it stands: no mistake and no note shows the URL's password
// or its query.
func TestNoSettingShowsTheSecretOfAURL(t *testing.T) {
	t.Parallel()
	modes := map[string][]string{
		"open":    {"--login=open"},
		"webhook": {"--login=webhook", "--webhook-url=https://hook.example"},
		"oidc":    {"--login=oidc", "--oidc-issuer=https://id.example", "--oidc-client-id=a", "--oidc-external-url=https://a.example", "--store=redis://127.0.0.1:1"},
	}
	values := []string{
		"https://u:hunter2@h.example/", "http://u:hunter2@h.example:1", "redis://:hunter2@h.example?x=1", "u:hunter2@h.example", "ftp:u:hunter2@h",
		"https://u:hunter2,hunter2/hunter2@h.example", `https://u:hunter2"hunter2 hunter2@h`, "https://u:hunter2@h/?token=hunter2@h#hunter2",
		"https://a.example,https://u:hunter2@h.example", "https://h.example/?token=hunter2", "h.example?token=hunter2", "https://h.example/%zz?hunter2", "unix:/run/x?mode=hunter2",
	}
	mistakes, file := 0, filepath.Join(t.TempDir(), "file")
	for mode, args := range modes {
		for _, s := range config.Settings() {
			others := slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return strings.HasPrefix(arg, "--"+s.Name+"=") })
			for i, value := range values {
				require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "%s = '%s'\n", s.Name, value), 0o600))
				for from, said := range map[string]struct{ arg, env string }{
					"flag": {arg: "--" + s.Name + "=" + value}, "variable": {env: s.Env + "=" + value}, "file": {arg: "--config=" + file},
				} {
					if from != "flag" && (mode != "open" || i > 3) {
						continue // the source of a value and what is wrong with it are told in different places
					}
					c, err := config.Load(append(others[:len(others):len(others)], cmp.Or(said.arg, "--dev=false")), []string{said.env})
					o, wrong := credentials.Open(c, login.UsersOptions{})
					if err = errors.Join(err, wrong); err == nil {
						continue
					}
					mistakes++
					told := err.Error() + strings.Join(append(c.Notes, o.Notes...), "\n")
					assert.False(t, strings.Contains(told, "hunter2"), "mode %s, --%s, from the %s, value %d", mode, s.Name, from, i)
				}
			}
		}
	}
	assert.Greater(t, mistakes, 2_000, "nearly all of them are mistakes")
}
