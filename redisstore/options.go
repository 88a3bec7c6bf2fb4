package redisstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Options says which Redis a Store uses, and how. Only URL is required.
type Options struct {
	// URL names the servers, as rueidis.ParseURL reads it: redis://user:password@host:6379/0, rediss:// for TLS,
	// ?addr=host:port for each further node of a Cluster or each further Sentinel, ?master_set=name for Sentinel. With
	// rediss:// the files tls_ca, tls_cert and tls_key (PEM) may be named, and the connections to the Sentinels use TLS
	// too. There is no way to turn the verification of certificates off. Other parameters are refused.
	URL string

	// Prefix begins every key; empty is "coatcheck:". Change it when two installations share one Redis. No braces: the
	// store's own decide the Cluster slot.
	Prefix string

	// CacheTTL is how long a record may be served from this process's memory at most; Redis reports when it changes, so
	// this bounds only the effect of a lost message. 0 is one minute. Negative turns the cache off: each Load asks Redis.
	CacheTTL time.Duration

	// CacheSize is how many bytes the cache may take up in all, bookkeeping included. 0 is 64 MiB, enough for some 150,000
	// sessions of 200 bytes.
	CacheSize int

	// Timeout is how long a method may take, retries included. 0 is 500 ms; at most 3 s, because a link that was cut
	// silently has to be found dead within 5 s. EndUser may take EndUserWithin where Redis may evict keys.
	Timeout time.Duration

	// WaitReplicas is how many replicas must have a logout, a revocation or a rotation before it is acknowledged; if that
	// takes longer than Timeout, the error is coatcheck.ErrUnavailable. With 0 a write is acknowledged once the primary has
	// it: a failover may then undo the last moments. Run one replica more than this number.
	WaitReplicas int

	// AllowEviction lets New accept a Redis that may evict keys: with maxmemory above 0 and a maxmemory-policy other than
	// noeviction. What holds a user's sessions together may be evicted there before the sessions are, so the limit of sessions
	// per user is not kept, and List does not show all. EndUser with a mark, an operator's, then also looks through all keys for
	// the records of the user.
	AllowEviction bool

	// Logger gets what is wrong with the server's set-up when the store starts; nil is slog.Default().
	Logger *slog.Logger

	// TLS replaces what rediss:// and its files would use: root certificates, client certificates. Its MinVersion is raised
	// to TLS 1.2, and InsecureSkipVerify is refused. Nil leaves it to the URL. It needs rediss://.
	TLS *tls.Config
}

const (
	defaultPrefix     = "coatcheck:"
	defaultClientName = "coatcheck"
	defaultCacheTTL   = time.Minute
	defaultCacheSize  = 64 << 20
	defaultTimeout    = 500 * time.Millisecond
	maxTimeout        = 3 * time.Second

	// dialTimeout is how long making a connection may take: less than the two seconds after which the effects of an outage
	// must be over.
	dialTimeout = time.Second
	// A connection on which nothing came for twice pingEvery gets a PING, and has deadAfter to answer it.
	pingEvery = 500 * time.Millisecond
	// askSentinels is how often the Sentinels are asked which server is the primary, in case their message was lost.
	askSentinels = 2 * time.Second
	// A connection holds up to 2^ringScale commands under way: more than 500 requests a second pile up on a link that was
	// cut before it is found dead. Beyond that callers would wait for longer than Timeout.
	ringScale = 12
)

// withDefaults returns the options with every default filled in, or all that is wrong with them.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("redisstore: "+format, args...))
		}
	}
	check(!strings.ContainsAny(o.Prefix, "{}"), "Prefix %q: must not contain braces", o.Prefix)
	check(o.CacheSize >= 0, "CacheSize %d: must not be negative; a negative CacheTTL turns the cache off", o.CacheSize)
	check(o.Timeout >= 0 && o.Timeout <= maxTimeout, "Timeout %v: must be between 0 and %v", o.Timeout, maxTimeout)
	check(o.WaitReplicas >= 0, "WaitReplicas %d: must not be negative", o.WaitReplicas)
	check(o.TLS == nil || !o.TLS.InsecureSkipVerify, "TLS: certificates are always verified, InsecureSkipVerify is not offered")
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if o.CacheTTL == 0 {
		o.CacheTTL = defaultCacheTTL
	}
	if o.CacheSize == 0 {
		o.CacheSize = defaultCacheSize
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, errors.Join(errs...)
}

// Validate returns all mistakes of the options, joined. It does not connect, and its errors never repeat the URL, which may
// hold a password.
func (o Options) Validate() error {
	o, err := o.withDefaults()
	_, urlErr := o.client()
	return errors.Join(err, urlErr)
}

// deadAfter is how long an answer may take before the connection counts as dead: at most 3 s, so that with the ping before
// it a silent cut is noticed within 5 s.
func (o Options) deadAfter() time.Duration {
	return min(max(2*o.Timeout, time.Second), maxTimeout)
}

// client returns what the URL says in rueidis' terms. Its errors never repeat the URL, which may hold a password.
func (o Options) client() (rueidis.ClientOption, error) {
	u, err := url.Parse(o.URL)
	if err != nil || o.URL == "" {
		return rueidis.ClientOption{}, errors.New("redisstore: URL: cannot be read; it looks like redis://user:password@host:6379/0, with reserved characters percent-encoded")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil { // whose text may have a part of a password
		return rueidis.ClientOption{}, errors.New("redisstore: URL: the part behind the ? cannot be read; ; and % must be percent-encoded")
	}
	if err := errors.Join(checkParameters(u, q), checkAddresses(u, q["addr"])); err != nil {
		return rueidis.ClientOption{}, err
	}
	if u.Scheme != "unix" { // redis://host:6379/ has no database number, and rueidis takes the empty one for a mistake
		u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), ""
	}
	opt, err := rueidis.ParseURL(u.String())
	if err != nil {
		// The text ends with the part that was not understood, which is a part of the password where one has a "/" in it.
		what, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "redis: "), ":")
		return opt, fmt.Errorf("redisstore: URL: %s; reserved characters, as in a password, must be percent-encoded", what)
	}
	if opt.SelectDB < 0 {
		return opt, errors.New("redisstore: URL: the number of the database is negative")
	}
	if err := o.secure(&opt, q); err != nil {
		return opt, err
	}
	opt.DisableCache = opt.DisableCache || opt.AlwaysRESP2 || o.CacheTTL < 0
	if opt.ClientName == "" && !opt.DisableCache { // without RESP3 it takes CLIENT SETNAME, which the user or a proxy may lack
		opt.ClientName = defaultClientName
	}
	opt.Sentinel.ClientName = opt.ClientName
	opt.ClientSetInfo = rueidis.DisableClientSetInfo // it would be one more command that the Redis user must be allowed
	opt.PipelineMultiplex = -1                       // one connection a node: what a node wrote, its next read sees
	opt.RingScaleEachConn = ringScale
	opt.ConnWriteTimeout = o.deadAfter()
	opt.RetryDelay = func(attempts int, _ rueidis.Completed, _ error) time.Duration { return backoff(attempts) }
	opt.Dialer.KeepAlive = pingEvery
	if opt.Dialer.Timeout <= 0 {
		opt.Dialer.Timeout = dialTimeout
	}
	opt.Sentinel.Dialer = opt.Dialer
	opt.Sentinel.TLSConfig = opt.TLSConfig
	opt.Sentinel.TopologyRefreshInterval = askSentinels
	return opt, nil
}

// parameters are those that a URL may have.
var parameters = []string{
	"addr", "client_cache", "client_name", "db", "dial_timeout", "master_set", "max_retries", "protocol", "tls_ca", "tls_cert", "tls_key",
}

// notOffered are parameters of rueidis' URLs that are refused.
var notOffered = []string{"skip_verify", "write_timeout"}

// valuesOf are the values of parameters of which rueidis knows one, and takes any other for the default.
var valuesOf = map[string][]string{"client_cache": {"0", "1"}, "max_retries": {"0"}, "protocol": {"2", "3"}}

// checkParameters returns all mistakes of the parameters, also what rueidis would ignore: a misspelt one or an empty one may mean another
// Redis.
func checkParameters(u *url.URL, q url.Values) error {
	if u.Fragment != "" {
		return errors.New("redisstore: URL: holds a #; reserved characters, as in a password, must be percent-encoded")
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if !slices.Contains(slices.Concat(parameters, notOffered), name) && strings.Contains(u.RawQuery, "@") { // the name may be a part of a password
			return errors.New("redisstore: URL: an unknown parameter; reserved characters, as in a password, must be percent-encoded")
		}
		errs = append(errs, checkParameter(name, q[name]))
	}
	if q.Has("db") && u.Scheme != "unix" && strings.Trim(u.Path, "/") != "" {
		errs = append(errs, errors.New("redisstore: URL: the number of the database is given twice, in the path and as the parameter db"))
	}
	return errors.Join(errs...)
}

func checkParameter(name string, values []string) error {
	switch {
	case name == "skip_verify":
		return errors.New("redisstore: URL: skip_verify is not offered: certificates are always verified")
	case name == "write_timeout":
		return errors.New("redisstore: URL: write_timeout is not offered: it follows from Timeout")
	case !slices.Contains(parameters, name):
		return fmt.Errorf("redisstore: URL: %.40q is not one of the parameters %s", name, strings.Join(parameters, ", "))
	case slices.Contains(values, ""):
		return fmt.Errorf("redisstore: URL: the parameter %s has no value", name)
	case len(values) > 1 && name != "addr":
		return fmt.Errorf("redisstore: URL: the parameter %s is given twice", name)
	case valuesOf[name] != nil && !slices.Contains(valuesOf[name], values[0]):
		return fmt.Errorf("redisstore: URL: the parameter %s may be %s", name, strings.Join(valuesOf[name], " or "))
	case name == "dial_timeout":
		if d, err := time.ParseDuration(values[0]); err != nil || d <= 0 {
			return errors.New("redisstore: URL: dial_timeout must be above 0, as in 1s")
		}
	}
	return nil
}

// checkAddresses returns an error for an address to which nobody can connect, and for one of which rueidis would take a part for the
// default: of an addr without a port it asks the first server.
func checkAddresses(u *url.URL, further []string) error {
	if u.Scheme == "unix" {
		return nil
	}
	first := strings.TrimSuffix(u.Host, ":")
	if u.Port() == "" {
		first += ":6379"
	}
	if u.Hostname() == "" {
		first = "localhost" + first
	}
	if !isAddress(first) { // which may be the name and a part of the password
		return errors.New("redisstore: URL: behind // stands one server, host or host:port, with a port from 1 to 65535; each further one is a parameter addr=host:port")
	}
	for _, addr := range further {
		switch {
		case isAddress(addr):
		case strings.Contains(u.RawQuery, "@"): // it may be a part of a password
			return errors.New("redisstore: URL: addr must be one host:port, with a port from 1 to 65535; reserved characters, as in a password, must be percent-encoded")
		default:
			return fmt.Errorf("redisstore: URL: addr=%.60q must be one host:port, with a port from 1 to 65535; each further server is an addr of its own", addr)
		}
	}
	return nil
}

// isAddress reports whether the text is a host and the number of a port.
func isAddress(text string) bool {
	host, port, err := net.SplitHostPort(text)
	number, numberErr := strconv.ParseUint(port, 10, 16)
	return err == nil && numberErr == nil && number > 0 && host != "" && !strings.ContainsAny(host, ",;/?@ ")
}

// secure fills in the TLS configuration.
func (o Options) secure(opt *rueidis.ClientOption, q url.Values) error {
	files := q.Has("tls_ca") || q.Has("tls_cert") || q.Has("tls_key")
	switch {
	case opt.TLSConfig == nil && (files || o.TLS != nil):
		return errors.New("redisstore: certificates are given, but the URL is not rediss://")
	case opt.TLSConfig == nil:
		return nil
	case o.TLS != nil && files:
		return errors.New("redisstore: certificates are given twice, in the URL and in TLS")
	case o.TLS != nil:
		name := opt.TLSConfig.ServerName
		opt.TLSConfig = o.TLS.Clone()
		opt.TLSConfig.MinVersion = max(opt.TLSConfig.MinVersion, tls.VersionTLS12)
		if opt.TLSConfig.ServerName == "" {
			opt.TLSConfig.ServerName = name
		}
		return nil
	}
	return loadFiles(opt.TLSConfig, q.Get("tls_ca"), q.Get("tls_cert"), q.Get("tls_key"))
}

func loadFiles(conf *tls.Config, ca, cert, key string) error {
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return fmt.Errorf("redisstore: tls_ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("redisstore: tls_ca: no certificate in %s", ca)
		}
	}
	if cert == "" && key == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("redisstore: tls_cert and tls_key: %w", err)
	}
	conf.Certificates = []tls.Certificate{pair}
	return nil
}
