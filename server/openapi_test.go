package server_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/internal/cookie"
	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/shardstore"
)

// The document is in docs/, too, where people look for it; go:embed wants it here. What it says is held against every request
// and answer of TestContract.
func TestOpenAPICopy(t *testing.T) {
	served, err := os.ReadFile("openapi.yaml")
	require.NoError(t, err)
	copied, err := os.ReadFile("../docs/openapi.yaml")
	require.NoError(t, err)
	assert.Equal(t, string(served), string(copied), "cp server/openapi.yaml docs/openapi.yaml")
}

// The document that a server shows names the cookie that this server reads, also where --dev or --cookie-name gave it another name.
func TestOpenAPINamesTheCookie(t *testing.T) {
	file, err := os.ReadFile("openapi.yaml")
	require.NoError(t, err)
	shown := func(c server.Cookie) string {
		store, err := shardstore.New(shardstore.Options{})
		require.NoError(t, err)
		defer func() { require.NoError(t, store.Close()) }()
		s, err := server.New(store, server.Config{Login: login.Open{}, Cookie: c})
		require.NoError(t, err)
		var ctx fasthttp.RequestCtx
		ctx.Request.SetRequestURI("/openapi.yaml")
		s.Handler()(&ctx)
		return string(ctx.Response.Body())
	}
	assert.Equal(t, string(file), shown(server.Cookie{}))
	for _, c := range []server.Cookie{{Name: "coatcheck", Insecure: true}, {Name: "#!'&*%|`sid", Path: `/a"b\`, Domain: "example.com", SameSite: "strict"}} {
		text := shown(c)
		assert.NotContains(t, text, "__Host-coatcheck")
		var doc struct {
			Components struct {
				SecuritySchemes map[string]struct{ Name string } `yaml:"securitySchemes"`
				Headers         map[string]struct{ Example string }
			}
		}
		require.NoError(t, yaml.Unmarshal([]byte(text), &doc))
		assert.Equal(t, c.Name, doc.Components.SecuritySchemes["session"].Name)
		k, err := cookie.New(c)
		require.NoError(t, err)
		assert.Equal(t, c.Name+"=…43 characters…; Max-Age=43200; "+k.Attributes(), doc.Components.Headers["Ticket"].Example)
	}
}

// Generators of clients make nothing of a header whose values have no type.
func TestOpenAPIHeadersHaveTypes(t *testing.T) {
	file, err := os.ReadFile("openapi.yaml")
	require.NoError(t, err)
	var doc struct {
		Components struct {
			Headers map[string]struct {
				Schema struct{ Type string }
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(file, &doc))
	require.NotEmpty(t, doc.Components.Headers)
	for name, header := range doc.Components.Headers {
		assert.NotEmpty(t, header.Schema.Type, name)
	}
}
