// Package oidctest has an OpenID Connect provider for tests. It does what a provider does, and lets a test change each of its
// answers, so that every check of a client can be seen.
package oidctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// What the one client of the provider is.
const (
	ClientID = "coatcheck"
	Secret   = "the client's secret, which is long enough"
)

// Provider is a provider that logs everybody in at once, without a page.
type Provider struct {
	URL string

	server *httptest.Server

	// The fields below are guarded by mu; a test changes them by Edit.
	mu sync.Mutex
	Behaviour
	codes map[string]url.Values // the authorization requests, by code
	calls map[string]int        // by path
}

// Behaviour is what a test changes.
type Behaviour struct {
	// User and Claims are who logs in, and what is said of them, by the ID token and by userinfo.
	User     string
	Claims   map[string]any
	UserInfo map[string]any
	// Token changes an ID token's claims before it is signed.
	Token func(claims map[string]any)
	// Sign signs; nil: with the provider's key.
	Sign func(claims map[string]any) string
	// Keys are those at jwks_uri, and Signer is the one that signs.
	Keys   []jose.JSONWebKey
	Signer jose.SigningKey
	// Document changes the discovery document.
	Document func(map[string]any)
	// Handlers answer in place of the provider's own, by path.
	Handlers map[string]http.HandlerFunc
	// Redirect changes where the browser is sent back to.
	Redirect func(url.Values)
	// AnyCode lets a code be used by any client, with any verifier, and more than once.
	AnyCode bool
	// Now is the provider's clock.
	Now func() time.Time
}

// New starts a provider, which stops when the test ends.
func New(t testing.TB) *Provider {
	t.Helper()
	p := &Provider{codes: make(map[string]url.Values), calls: make(map[string]int)}
	signer, public := firstKey()
	p.Behaviour = Behaviour{
		User: "sub-ann", Signer: signer, Keys: []jose.JSONWebKey{public}, Now: time.Now, Handlers: make(map[string]http.HandlerFunc),
		Claims: map[string]any{"name": "Ann", "email": "ann@example.com", "email_verified": true, "groups": []string{"staff", "ops"}, "sid": "session-1"},
	}
	p.server = httptest.NewServer(http.HandlerFunc(p.serve))
	p.URL = p.server.URL
	t.Cleanup(p.server.Close)
	return p
}

// firstKey is the key of all providers, because making one takes a while.
func firstKey() (jose.SigningKey, jose.JSONWebKey) {
	key := shared()
	return jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "first", Algorithm: "RS256", Use: "sig"}},
		jose.JSONWebKey{Key: key.Public(), KeyID: "first", Algorithm: "RS256", Use: "sig"}
}

var shared = sync.OnceValue(rsaKey)

// NewKey returns a new RSA key of that name.
func NewKey(id string) (jose.SigningKey, jose.JSONWebKey) {
	key := rsaKey()
	return jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: id, Algorithm: "RS256", Use: "sig"}},
		jose.JSONWebKey{Key: key.Public(), KeyID: id, Algorithm: "RS256", Use: "sig"}
}

// NewECKey is NewKey for ES256.
func NewECKey(id string) (jose.SigningKey, jose.JSONWebKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	return jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: id}}, jose.JSONWebKey{Key: key.Public(), KeyID: id, Algorithm: "ES256", Use: "sig"}
}

// NewEdKey is NewKey for EdDSA.
func NewEdKey(id string) (jose.SigningKey, jose.JSONWebKey) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	return jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: key, KeyID: id}}, jose.JSONWebKey{Key: public, KeyID: id, Algorithm: "EdDSA", Use: "sig"}
}

// Edit changes the behaviour.
func (p *Provider) Edit(f func(*Behaviour)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.Behaviour)
}

// Calls is how often a path was asked for.
func (p *Provider) Calls(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[path]
}

func (p *Provider) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.calls[r.URL.Path]++
	handler := p.Handlers[r.URL.Path]
	p.mu.Unlock()
	if handler == nil {
		handler = map[string]http.HandlerFunc{
			"/.well-known/openid-configuration": p.discovery, "/keys": p.keys, "/authorize": p.authorize, "/token": p.token, "/userinfo": p.userInfo,
		}[r.URL.Path]
	}
	if handler == nil {
		http.NotFound(w, r)
		return
	}
	handler(w, r)
}

func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	doc := map[string]any{
		"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
		"userinfo_endpoint": p.URL + "/userinfo", "end_session_endpoint": p.URL + "/end", "scopes_supported": []string{"openid", "profile", "email"},
		"code_challenge_methods_supported": []string{"S256"}, "backchannel_logout_supported": true, "authorization_response_iss_parameter_supported": true,
	}
	if p.Document != nil {
		p.Document(doc)
	}
	answer(w, doc)
}

func (p *Provider) keys(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	answer(w, jose.JSONWebKeySet{Keys: p.Keys})
}

func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	code := rand.Text()
	p.codes[code] = r.URL.Query()
	back := url.Values{"code": {code}, "state": {r.URL.Query().Get("state")}, "iss": {p.URL}}
	if p.Redirect != nil {
		p.Redirect(back)
	}
	http.Redirect(w, r, r.URL.Query().Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, secret, _ := r.BasicAuth()
	secret, _ = url.QueryUnescape(secret)
	asked, ok := p.codes[r.PostFormValue("code")]
	challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	good := ok && asked.Get("code_challenge") == base64.RawURLEncoding.EncodeToString(challenge[:]) && asked.Get("client_id") == id && id == ClientID &&
		asked.Get("code_challenge_method") == "S256" && asked.Get("redirect_uri") == r.PostFormValue("redirect_uri") && secret == Secret
	if !good && (!p.AnyCode || !ok) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
		return
	}
	if !p.AnyCode {
		delete(p.codes, r.PostFormValue("code"))
	}
	now := p.Now()
	claims := map[string]any{
		"iss": p.URL, "aud": ClientID, "sub": p.User, "nonce": asked.Get("nonce"), "iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(), "auth_time": now.Unix(),
	}
	maps.Copy(claims, p.Claims)
	if p.Token != nil {
		p.Token(claims)
	}
	answer(w, map[string]any{"access_token": rand.Text(), "token_type": "Bearer", "id_token": p.sign(claims)})
}

func (p *Provider) userInfo(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	claims := map[string]any{"sub": p.User}
	maps.Copy(claims, p.UserInfo)
	answer(w, claims)
}

// LogoutToken returns a logout token with these claims beside or in place of the usual ones; a nil value takes one out.
func (p *Provider) LogoutToken(edit map[string]any) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.Now()
	claims := map[string]any{
		"iss": p.URL, "aud": ClientID, "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "jti": rand.Text(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}
	for name, value := range edit {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	return p.sign(claims)
}

func (p *Provider) sign(claims map[string]any) string {
	if p.Sign != nil {
		return p.Sign(claims)
	}
	return Signed(p.Signer, claims)
}

// Signed returns the claims as a signed token.
func Signed(key jose.SigningKey, claims map[string]any) string {
	payload, err := json.Marshal(claims)
	must(err)
	return SignedText(key, payload)
}

// SignedText is Signed for claims that encoding/json would not write.
func SignedText(key jose.SigningKey, payload []byte) string {
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT"))
	must(err)
	jws, err := signer.Sign(payload)
	must(err)
	text, err := jws.CompactSerialize()
	must(err)
	return text
}

// Unsigned returns the claims as a token of the algorithm none.
func Unsigned(claims map[string]any) string {
	payload, err := json.Marshal(claims)
	must(err)
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload) + "."
}

// SignedByPublicKey returns the claims signed by HS256 with the bytes of a public key, which a client that lets the token choose
// the algorithm takes for the provider's signature.
func SignedByPublicKey(public crypto.PublicKey, claims map[string]any) string {
	der, err := x509.MarshalPKIXPublicKey(public)
	must(err)
	return Signed(jose.SigningKey{Algorithm: jose.HS256, Key: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}, claims)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	must(json.NewEncoder(w).Encode(v))
}

func rsaKey() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	return key
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
