package fibersession_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	_ "github.com/coatcheck/coatcheck/fibersession" // so that no cached result outlives a change of it
	_ "github.com/coatcheck/coatcheck/httpsession"
)

// Whoever takes a middleware compiles nothing of the server.
func TestMiddlewaresDependOnLittle(t *testing.T) {
	server := []string{
		"prometheus", "protobuf", "opentelemetry", "argon2", "pflag", "rueidis", "BurntSushi/toml", "go-oidc", "go-jose", "x/oauth2",
		"coatcheck/server", "coatcheck/redisstore", "coatcheck/shardstore", "coatcheck/cmd",
	}
	for pkg, barred := range map[string][]string{
		"../fibersession": append([]string{"coatcheck/httpsession"}, server...),
		"../httpsession":  append([]string{"fiber", "fasthttp"}, server...),
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).CombinedOutput()
		require.NoError(t, err, "%s", out)
		deps := strings.Fields(string(out))
		require.Contains(t, deps, "github.com/coatcheck/coatcheck"+strings.TrimPrefix(pkg, ".."))
		for _, dep := range deps {
			for _, word := range barred {
				assert.NotContains(t, dep, word, pkg)
			}
		}
	}
}
