package credentials

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/server/oidc"
)

// openProvider makes the provider of login mode oidc. It does not ask the provider anything.
func (o *Credentials) openProvider(c *config.Config) error {
	opt := oidc.Options{
		Issuer: c.OIDC.Issuer, ClientID: c.OIDC.ClientID, ExternalURL: c.OIDC.ExternalURL, Scopes: strings.Fields(c.OIDC.Scopes),
		RemoteUser: c.OIDC.RemoteUser, Groups: c.OIDC.Groups, Claims: c.OIDC.Claims, Allow: c.OIDC.Allow, StateKeys: oidc.RandomStateKey(),
	}
	var errs []error
	if file := c.OIDC.SecretFile; file != "" {
		secret := &secretFile{file: file}
		if err := secret.reload(); err != nil {
			errs = append(errs, c.Mistake("oidc-client-secret-file", err))
		}
		opt.Secret = secret.get
		o.reloadOnly("oidc-client-secret-file", file, secret.reload)
	}
	if file := c.OIDC.StateKeyFile; file != "" {
		keys, err := oidc.LoadStateKeys(file)
		if err != nil {
			errs = append(errs, c.Mistake("oidc-state-key-file", err))
		} else {
			opt.StateKeys = keys
			o.reloadOnly("oidc-state-key-file", file, keys.Reload)
		}
	}
	if file := c.OIDC.CAFile; file != "" {
		pool, err := authorities(file)
		if err != nil {
			errs = append(errs, c.Mistake("oidc-ca-file", err))
		}
		opt.RootCAs = pool
	}
	provider, err := oidc.New(opt)
	if err := errors.Join(append(errs, located(c, err))...); err != nil {
		return err
	}
	o.Login, o.Provider = login.Provider{}, provider
	return nil
}

// located adds to each of the library's mistakes where its value stands.
func located(c *config.Config, err error) error {
	var all []error
	for _, one := range config.Leaves(err) {
		setting, _, _ := strings.Cut(one.Error(), ":")
		all = append(all, c.Mistake(setting, errors.New(strings.TrimPrefix(one.Error(), setting+": "))))
	}
	return errors.Join(all...)
}

// secretFile is a file with the client's secret.
type secretFile struct {
	file  string
	value atomic.Pointer[string] // written by reload
}

func (s *secretFile) get() string { return *s.value.Load() }

func (s *secretFile) reload() error {
	secret, err := readSecret(s.file, "secret")
	if err != nil {
		return fmt.Errorf("client secret: %w", err)
	}
	s.value.Store(&secret)
	return nil
}

func authorities(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s: holds no certificate in PEM", file)
	}
	return pool, nil
}
