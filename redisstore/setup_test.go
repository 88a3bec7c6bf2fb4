package redisstore_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

func TestOptions(t *testing.T) {
	const url = "redis://user:s3cret@127.0.0.1:1"
	for name, opt := range map[string]redisstore.Options{
		"no URL":                      {},
		"not a URL":                   {URL: "redis://user:s3cret@ho st:6379"},
		"a slash in the password":     {URL: "redis://user:s3cret/x@host:6379"},
		"another scheme":              {URL: "http://user:s3cret@host"},
		"no number of a database":     {URL: url + "/x"},
		"unverified certificates":     {URL: "rediss://user:s3cret@host?skip_verify=1"},
		"unverified, by TLS":          {URL: "rediss://host", TLS: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // it is refused
		"a write timeout":             {URL: url + "?write_timeout=60s"},
		"a misspelt parameter":        {URL: url + "?mastr_set=main"},
		"a parameter without a value": {URL: url + "?master_set="},
		"a fragment":                  {URL: url + "#s3cret"},
		"a semicolon":                 {URL: url + "?master_set=s3cret;addr=other:1"},
		"a percent sign":              {URL: url + "?master_set=s3cret%"},
		"a question in the password":  {URL: "redis://:12?s3cret@host"},
		"the same, with a value":      {URL: "redis://:12?s3cret=s3cret@host"},
		"braces in the prefix":        {URL: url, Prefix: "{x}"},
		"a negative size":             {URL: url, CacheSize: -1},
		"a negative timeout":          {URL: url, Timeout: -1},
		"a timeout beyond three s":    {URL: url, Timeout: 4 * time.Second},
		"fewer than no replicas":      {URL: url, WaitReplicas: -1},
		"certificates for plain text": {URL: url, TLS: &tls.Config{MinVersion: tls.VersionTLS13}},
		"certificate files too":       {URL: url + "?tls_ca=ca.pem"},
		"a missing file":              {URL: "rediss://user:s3cret@host?tls_ca=/does/not/exist"},
		"certificates twice":          {URL: "rediss://host?tls_ca=ca.pem", TLS: &tls.Config{MinVersion: tls.VersionTLS13}},
	} {
		_, err := redisstore.New(context.Background(), opt)
		require.Error(t, err, name)
		assert.NotContains(t, err.Error(), "s3cret", name)
		assert.NotErrorIs(t, err, coatcheck.ErrUnavailable, name)
	}
	_, err := redisstore.New(context.Background(), redisstore.Options{CacheSize: -1, WaitReplicas: -1})
	require.ErrorContains(t, err, "URL")
	require.ErrorContains(t, err, "CacheSize")
	require.ErrorContains(t, err, "WaitReplicas")
}

// CASES B19: a slash in the end means nothing; a misspelt parameter is named; TLS to a port for plain text is called that.
func TestNearMissesInURLs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, end := range []string{"/", "/?dial_timeout=10s", "/0", "/0/", "/0/?protocol=3"} {
		s := opened(t, redisstore.Options{URL: server.URL() + end})
		require.NoError(t, s.Ping(context.Background()), end)
	}
	require.ErrorContains(t, redisstore.Options{URL: server.URL() + "?mastr_set=main"}.Validate(), `"mastr_set" is not one of the parameters addr,`)
	for end, text := range map[string]string{
		"?protocol=4": "protocol may be 2 or 3", "?client_cache=no": "client_cache may be 0 or 1", "?max_retries=5": "max_retries may be 0",
		"?master_set=a&master_set=b": "master_set is given twice", "/1?db=2": "database is given twice", "?db=-1": "is negative", "/-1": "is negative",
		"?dial_timeout=-1s": "dial_timeout must be above 0", "?dial_timeout=0": "dial_timeout must be above 0",
	} {
		require.ErrorContains(t, redisstore.Options{URL: server.URL() + end}.Validate(), text, end)
	}
	for rest, text := range map[string]string{
		"h:1,h:2": "behind // stands one server", "h,g:1": "behind // stands one server", "127.0.0.1:99999": "behind // stands one server",
		"h:0": "behind // stands one server", "::1:6379": "behind // stands one server", "h:1?addr=h:2/1": `addr="h:2/1" must be one host:port`,
		"h:1?addr=h:2,h:3": `addr="h:2,h:3" must`, "h:1?addr=h:99999": `addr="h:99999" must`, "h:1?addr=h": `addr="h" must`, "h:1?addr=g:1&addr=h/0:1": `addr="h/0:1" must`,
	} {
		require.ErrorContains(t, redisstore.Options{URL: "redis://u:s3cret@" + rest}.Validate(), text, rest)
	}
	for _, rest := range []string{"h", "h:", ":6379", "", "[::1]", "[::1]:1", "[fe80::1%25eth0]:1", "my_redis-0.ns.svc:6379?addr=[::2]:1"} {
		require.NoError(t, redisstore.Options{URL: "redis://" + rest}.Validate(), rest)
	}
	require.NoError(t, redisstore.Options{URL: server.URL() + "/1?client_cache=1&protocol=3&max_retries=0&addr=a:1&addr=b:2"}.Validate())
	require.ErrorContains(t, redisstore.Options{URL: server.URL() + "?master_set="}.Validate(), "master_set has no value")
	_, err := redisstore.New(context.Background(), redisstore.Options{URL: "rediss://" + server.Addr()})
	require.ErrorIs(t, err, coatcheck.ErrUnavailable)
	require.ErrorContains(t, err, "no TLS handshake with "+server.Addr())
}

// What Redis says as it ends a new connection is in the error.
func TestTooManyClients(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Must("CONFIG", "SET", "maxclients", "1") // which is the test's own
	_, err := redisstore.New(t.Context(), redisstore.Options{URL: server.URL()})
	require.ErrorIs(t, err, coatcheck.ErrUnavailable)
	require.ErrorContains(t, err, "connection refused by Redis: ERR max number of clients reached")
}

// The store works without RESP3 and the commands that come with it, as docs/redis.md says: what a user or a proxy lacks is not sent.
func TestWithoutRESP3(t *testing.T) {
	t.Parallel()
	const noHello, noClient = `rename-command HELLO ""`, `rename-command CLIENT ""`
	limited := redistest.Start(t, "user coatcheck "+aclUser(t))
	nameless := redistest.Start(t, noHello, "user default on nopass +@all -client|setname ~* &*")
	bare := redistest.Start(t, noHello, noClient)
	for name, opt := range map[string]redisstore.Options{
		"asked for":                        {URL: as(limited.URL()) + "?protocol=2"},
		"no HELLO, and no CLIENT SETNAME":  {URL: nameless.URL()},
		"no HELLO and no CLIENT":           {URL: bare.URL()},
		"no HELLO and no CLIENT, no cache": {URL: bare.URL(), CacheTTL: -1},
	} {
		t.Run(name, func(t *testing.T) {
			s := opened(t, opt)
			rec := add(t, s, "ada")
			require.NoError(t, load(s, rec))
			require.NoError(t, end(s, rec))
		})
	}
	nothingRefused(t, limited)
}

func TestNobodyIsThere(t *testing.T) {
	t.Parallel()
	began := time.Now()
	_, err := redisstore.New(context.Background(), redisstore.Options{URL: "redis://user:s3cret@127.0.0.1:1"})
	require.ErrorIs(t, err, coatcheck.ErrUnavailable)
	assert.NotContains(t, err.Error(), "s3cret")
	assert.Less(t, time.Since(began), time.Minute)

	proxy := redistest.Between(t, redistest.Start(t).Addr())
	proxy.Swallow(true)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err = redisstore.New(ctx, redisstore.Options{URL: "redis://" + proxy.Addr()})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, coatcheck.ErrUnavailable)
}

// logged returns what a store logs when it starts.
func logged(t *testing.T, opt redisstore.Options) string {
	t.Helper()
	var b bytes.Buffer
	opt.Logger = slog.New(slog.NewTextHandler(&b, nil))
	redistest.Eventually(t, time.Minute, "an inspection in time", func() bool {
		b.Reset()
		s := open(t, opt)
		rec := add(t, s, "ada")
		require.NoError(t, load(s, rec))
		require.NoError(t, s.Close())
		return !strings.Contains(b.String(), context.DeadlineExceeded.Error())
	})
	return b.String()
}

// durable is a line of the configuration of a Redis that has nothing wrong with it.
const durable = "appendonly yes"

func TestWarnings(t *testing.T) {
	t.Parallel()
	assert.Empty(t, logged(t, redisstore.Options{URL: redistest.Start(t, durable).URL()}), "nothing is wrong with it")
	assert.Contains(t, logged(t, redisstore.Options{URL: redistest.Start(t).URL()}), "keeps no append-only file")
	assert.Empty(t, logged(t, redisstore.Options{URL: undisturbedSentinel(t).URL()}))
	assert.Contains(t, logged(t, redisstore.Options{URL: redistest.Start(t, "maxmemory-policy allkeys-lru").URL()}), "may evict sessions")
	assert.Contains(t, logged(t, redisstore.Options{URL: redistest.Start(t, "maxmemory-policy volatile-ttl").URL()}), "may evict sessions")

	alone := logged(t, redisstore.Options{URL: redistest.Start(t).URL(), WaitReplicas: 1})
	assert.Contains(t, alone, "fewer replicas than are to be waited for")
	primary, _ := redistest.StartReplicated(t, durable)
	assert.Empty(t, logged(t, redisstore.Options{URL: primary.URL(), WaitReplicas: 1}))

	forbidden := redistest.Start(t, "user default on nopass +@all -evalsha -eval ~* &*")
	_, err := redisstore.New(context.Background(), redisstore.Options{URL: forbidden.URL()})
	require.ErrorContains(t, err, "NOPERM", "who may not run scripts is told at the start")

	limited := redistest.Start(t, "user default on nopass +@all -info -client ~* &*")
	said := logged(t, redisstore.Options{URL: limited.URL()})
	assert.Contains(t, said, "cannot find out whether Redis may evict")
	assert.Contains(t, said, "offers no client-side caching")
	assert.NotContains(t, logged(t, redisstore.Options{URL: limited.URL(), CacheTTL: -1}), "client-side caching")
}

// The address 0.0.0.0 leads to loopback, but does not look like it.
func TestWarningsOffLoopback(t *testing.T) {
	server := redistest.Start(t, "user default on >s3cret +@all ~* &*", "user guest on nopass +@all ~* &*")
	addr := fmt.Sprintf("0.0.0.0:%d", server.Port)
	said := logged(t, redisstore.Options{URL: "redis://:s3cret@" + addr})
	assert.Contains(t, said, "not encrypted")
	assert.NotContains(t, said, "without a password")
	assert.NotContains(t, said, "s3cret")
	assert.Contains(t, logged(t, redisstore.Options{URL: "redis://guest@" + addr}), "without a password")
}

// authority makes certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue(name, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue writes name.crt and name.key, signed by the authority, or self-signed for the authority's own certificate.
func (a *authority) issue(name string, tmpl *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	tmpl.SerialNumber = big.NewInt(time.Now().UnixNano())
	tmpl.Subject = pkix.Name{CommonName: name}
	tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	require.NoError(a.t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(a.t, err)
	a.write(name+".crt", "CERTIFICATE", der)
	a.write(name+".key", "PRIVATE KEY", keyDER)
	cert, err := x509.ParseCertificate(der)
	require.NoError(a.t, err)
	return cert, key
}

func (a *authority) write(file, kind string, der []byte) {
	a.t.Helper()
	require.NoError(a.t, os.WriteFile(a.file(file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// RED-07: the chain and the name are verified, and a client certificate can be asked for.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca")
	ca.issue("server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	ca.issue("client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	ca.issue("misnamed", &x509.Certificate{DNSNames: []string{"redis.example"}})
	other := newAuthority(t, "ca")
	serve := func(name string) *redistest.Server {
		return redistest.StartTLS(t, ca.file("ca.crt"), ca.file(name+".crt"), ca.file(name+".key"))
	}
	server, misnamed := serve("server"), serve("misnamed")
	client := "&tls_cert=" + ca.file("client.crt") + "&tls_key=" + ca.file("client.key")
	url := func(s *redistest.Server) string { return fmt.Sprintf("rediss://127.0.0.1:%d", s.TLSPort) }

	s := opened(t, redisstore.Options{URL: url(server) + "?tls_ca=" + ca.file("ca.crt") + client})
	warm(t, s, add(t, s, "ada"))

	pair, err := tls.LoadX509KeyPair(ca.file("client.crt"), ca.file("client.key"))
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	s = opened(t, redisstore.Options{URL: url(server), TLS: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}) //nolint:gosec // the store sets MinVersion
	warm(t, s, add(t, s, "ada"))

	for name, opt := range map[string]redisstore.Options{
		"a chain that ends elsewhere":  {URL: url(server) + "?tls_ca=" + other.file("ca.crt") + client},
		"the system's roots":           {URL: url(server) + "?" + client},
		"another name":                 {URL: url(misnamed) + "?tls_ca=" + ca.file("ca.crt") + client},
		"no client certificate":        {URL: url(server) + "?tls_ca=" + ca.file("ca.crt")},
		"a client that speaks TLS 1.1": {URL: url(server), TLS: &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11}}, //nolint:gosec // it is refused
	} {
		_, err := redisstore.New(context.Background(), opt)
		require.ErrorIs(t, err, coatcheck.ErrUnavailable, name)
	}
	_, err = redisstore.New(context.Background(), redisstore.Options{URL: fmt.Sprintf("redis://:s3cret@127.0.0.1:%d", server.TLSPort)})
	require.ErrorIs(t, err, coatcheck.ErrUnavailable)
	require.ErrorContains(t, err, fmt.Sprintf("127.0.0.1:%d ends a connection without an answer; if it is a port for TLS, the URL begins with rediss://", server.TLSPort))
	assert.NotContains(t, err.Error(), "s3cret")
}

func TestTLSFiles(t *testing.T) {
	ca := newAuthority(t, "ca")
	for _, q := range []string{"?tls_ca=" + ca.file("ca.key"), "?tls_cert=" + ca.file("ca.crt"), "?tls_key=" + ca.file("ca.key")} {
		_, err := redisstore.New(context.Background(), redisstore.Options{URL: "rediss://127.0.0.1:1" + q})
		require.ErrorContains(t, err, "tls_", q)
		assert.NotErrorIs(t, err, coatcheck.ErrUnavailable, q)
	}
}
