package config

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/server"
)

// Config holds the values of the settings. Where a library has a field of the same meaning, the setting is bound to that
// field, in Server or Redis.
type Config struct {
	Dev               bool
	File              string // the configuration file
	Listen            string // host:port
	AdminListen       string // host:port, or "off"
	AdminKeyFile      string
	Login             string // open, trusted, users, webhook or oidc
	LoginKeyFile      string
	UsersFile         string
	WebhookURL        string // may hold a secret
	AllowOpenLogin    bool
	OIDC              OIDC
	NotBefore         time.Time // --sessions-not-before
	OnReuse           string    // reject or revoke
	Store             string    // "memory", or a URL that may hold a password
	MaxSessions       int
	RedisPasswordFile string
	DataDir           string
	FsyncEvery        time.Duration
	Redis             redisstore.Options
	Shutdown          time.Duration // --shutdown-timeout
	TLSCert           string
	TLSKey            string
	LogFormat         string // json or text
	LogLevel          string
	OTel              bool

	Server server.Config

	// SecretFile is the configuration file if a setting in it may hold a password; else empty.
	SecretFile string
	// Notes are remarks on the configuration that are no mistakes, for the log.
	Notes []string

	byName map[string]*setting // the table
	given  map[string]given    // by the setting's name: its text, and where that stood
}

// OIDC holds the settings of login mode oidc.
type OIDC struct {
	Issuer, ClientID, SecretFile, ExternalURL string
	Scopes, RemoteUser                        string
	Claims, Groups, Allow                     []string
	StateKeyFile, CAFile                      string
}

// given is a setting's text and where it stood.
type given struct {
	text string
	from string
	each []string // of a list on the command line: the texts that text joins
}

const (
	fromFlags   = "command line"
	fromDefault = "default"
	fromDev     = "default with --dev"
)

// SetRedisPassword adds the password to the URL of --store, which has none.
func (c *Config) SetRedisPassword(password string) error {
	u, err := url.Parse(c.Redis.URL)
	if err != nil {
		return errors.New("the URL of --store cannot be read")
	}
	u.User = url.UserPassword(u.User.Username(), password)
	c.Redis.URL = u.String()
	return nil
}

// ErrHelp is returned for arguments that ask for help.
var ErrHelp = errors.New("help is wanted")

// Load reads all settings: the command line takes precedence over the environment, the environment over the file. The error
// is ErrHelp, or all mistakes, joined; none of them contains a secret. A configuration with mistakes is returned as well, so
// that the files that it names can be checked too. flags are those of one command alone.
func Load(args, environ []string, flags ...Flag) (*Config, error) {
	c := new(Config)
	table := c.table(flags)
	said, err := c.read(table, args, environ)
	if errors.Is(err, ErrHelp) {
		return c, err
	}
	mistakes := []error{err}
	if err == nil && len(said.rest) > 0 {
		mistakes = append(mistakes, fmt.Errorf("%d argument(s) that belong to no flag; a switch is turned off by --name=false", len(said.rest)))
	}
	for _, m := range said.inFile {
		mistakes = append(mistakes, m.err)
	}
	bad := c.apply(table)
	for i := range table {
		s := &table[i]
		if s.secret && said.path != "" && c.given[s.name].from == said.path {
			c.SecretFile = said.path
		}
		mistakes = append(mistakes, bad[s.name])
	}
	c.complete()
	for name, err := range c.validate() {
		// A setting that is wrong by itself is not checked again together with others, and if the file could not be read, no settings are
		// checked together.
		if bad[name] == nil && !said.unread {
			mistakes = append(mistakes, err)
		}
	}
	return c, errors.Join(mistakes...)
}

// LoadOnly reads the settings with these names, for a command that needs no others, and returns the arguments that belong to
// no flag. The other settings of serve may be given too and are not checked, so that the command works beside a running
// server whose configuration has a mistake by now. The error is like that of Load.
func LoadOnly(names, args, environ []string, flags ...Flag) (c *Config, rest []string, err error) {
	c = new(Config)
	table := c.table(flags)
	said, err := c.read(table, args, environ)
	if errors.Is(err, ErrHelp) {
		return c, nil, err
	}
	mistakes := []error{err}
	for _, m := range said.inFile {
		if slices.Contains(names, m.name) {
			mistakes = append(mistakes, m.err)
		}
	}
	table = slices.DeleteFunc(table, func(s setting) bool { return !s.flagOnly && !slices.Contains(names, s.name) })
	bad := c.apply(table)
	for i := range table {
		mistakes = append(mistakes, bad[table[i].name])
	}
	return c, said.rest, errors.Join(mistakes...)
}

// table returns the table of settings, bound to c, and of the flags of one command, and stores it in c.byName.
func (c *Config) table(flags []Flag) []setting {
	table := settings(c)
	for _, f := range flags {
		table = append(table, setting(f))
	}
	c.byName = make(map[string]*setting, len(table))
	for _, s := range table {
		c.byName[s.name] = &s
	}
	return table
}

// said is the content of the three sources, beside the settings' values, which are in Config.given.
type said struct {
	rest   []string      // the arguments that belong to no flag
	path   string        // the configuration file; empty: none
	inFile []fileMistake // mistakes in it, with the settings that they are about
	unread bool          // it could not be read: nobody knows which settings it has
}

// read reads the three sources. Its error is ErrHelp, mistakes on the command line, or that the file cannot be read.
func (c *Config) read(table []setting, args, environ []string) (said, error) {
	flags, rest, err := readFlags(table, args)
	if errors.Is(err, ErrHelp) {
		return said{}, err
	}
	mistakes := []error{err}
	env, notes := readEnvironment(table, environ)
	c.Notes = notes
	c.given = make(map[string]given)
	path, ok := flags["config"]
	if !ok {
		path = env["config"]
	}
	s := said{rest: rest, path: path.text}
	if s.path != "" {
		values, inFile, err := readFile(c.byName, s.path)
		if err != nil {
			s.unread = true
			mistakes = append(mistakes, c.byName["config"].mistake(path, err))
		}
		maps.Copy(c.given, values)
		s.inFile = inFile
	}
	maps.Copy(c.given, env)
	maps.Copy(c.given, flags)
	return s, errors.Join(mistakes...)
}

// apply sets every setting of the table to its given value, or else to its default, which it adds to c.given. It returns the
// mistakes by the setting's name. In the table dev stands before the settings whose defaults it changes.
func (c *Config) apply(table []setting) map[string]error {
	mistakes := make(map[string]error)
	for i := range table {
		s := &table[i]
		v, ok := c.given[s.name]
		if !ok {
			v = given{text: s.def, from: fromDefault}
			if c.Dev && s.dev != "" {
				v = given{text: s.dev, from: fromDev}
			}
			c.given[s.name] = v
			if v.text == "" {
				continue
			}
		}
		if err := s.set(v); err != nil {
			mistakes[s.name] = err
		}
	}
	return mistakes
}

// set sets the setting, or returns the mistakes. Each text of a list is judged for itself, because two that are wrong may be right together.
func (s *setting) set(v given) error {
	var mistakes []error
	for _, one := range v.each {
		if _, err := s.kind.set(one); err != nil {
			mistakes = append(mistakes, s.mistake(given{text: one, from: v.from}, err))
		}
	}
	if len(mistakes) > 0 {
		return errors.Join(mistakes...)
	}
	if _, err := s.kind.set(v.text); err != nil {
		return s.mistake(v, err)
	}
	return nil
}
