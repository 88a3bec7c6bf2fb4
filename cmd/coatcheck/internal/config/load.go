package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/pflag"
)

// given is a setting's text and where it stood.
type given struct {
	text string
	from string
}

const (
	fromFlags   = "command line"
	fromDefault = "default"
	fromDev     = "default with --dev"
)

// ErrHelp: the arguments ask for help and not for a server.
var ErrHelp = errors.New("help is wanted")

// Load reads the configuration from the command line, the environment and the file, the former before the latter, and opens
// nothing that it names. Its error is ErrHelp, or all mistakes, joined; none of them contains a secret. A configuration with
// mistakes is returned too, so that what it names can be judged along with it. more are the flags of one command alone.
func Load(args, environ []string, more ...Flag) (*Config, error) {
	c := new(Config)
	table := settings(c)
	for _, f := range more {
		table = append(table, setting(f))
	}
	return c, fill(c, table, args, environ)
}

// fill is Load for a table whose first settings are those of c.
func fill(c *Config, table []setting, args, environ []string) error {
	byName := make(map[string]*setting, len(table))
	for i := range table {
		byName[table[i].name] = &table[i]
	}
	flags, err := readFlags(table, args)
	if errors.Is(err, ErrHelp) {
		return err
	}
	mistakes := []error{err}
	env, notes := readEnv(table, environ)
	c.Notes = notes
	values := make(map[string]given)
	path, ok := flags["config"]
	if !ok {
		path = env["config"]
	}
	if path.text != "" {
		file, err := readFile(byName, path)
		mistakes = append(mistakes, err)
		maps.Copy(values, file)
	}
	maps.Copy(values, env)
	maps.Copy(values, flags)
	c.byName, c.given = byName, values
	bad := apply(c, table, values)
	for i := range table {
		if table[i].secret && path.text != "" && values[table[i].name].from == path.text {
			c.SecretFile = path.text
		}
		mistakes = append(mistakes, bad[table[i].name])
	}
	for name, err := range check(c, byName, values) {
		// What is wrong by itself is not judged again together with others.
		if bad[name] == nil {
			mistakes = append(mistakes, err)
		}
	}
	return errors.Join(mistakes...)
}

// recorder is a flag's value that keeps the text as it was typed, so that a bad one does not end the parsing: all mistakes
// are to be told at once.
type recorder struct {
	into map[string]given
	of   *setting
}

func (r *recorder) Set(s string) error {
	if before, ok := r.into[r.of.name]; ok && r.of.kind.many {
		s = before.text + "," + s
	}
	r.into[r.of.name] = given{s, fromFlags}
	return nil
}

func (r *recorder) String() string { return r.of.def }
func (r *recorder) Type() string   { return r.of.kind.noun }

// readFlags returns what the command line says. Arguments that it does not understand may be secrets that lost their flag,
// so that no mistake repeats more of one than a flag's name.
func readFlags(table []setting, args []string) (map[string]given, error) {
	values := make(map[string]given)
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	fs.Usage = func() {}
	fs.ParseErrorsAllowlist.UnknownFlagsHandling = pflag.PassUnknownFlagToArgs
	for i := range table {
		f := fs.VarPF(&recorder{into: values, of: &table[i]}, table[i].name, "", table[i].help)
		if table[i].kind.noun == "" {
			f.NoOptDefVal = "true"
		}
	}
	var missing *pflag.ValueRequiredError
	switch err := fs.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return nil, ErrHelp
	case errors.As(err, &missing):
		return values, fmt.Errorf("--%s: needs a value", missing.GetSpecifiedName())
	case err != nil:
		return values, errors.New("an argument is not understood: a flag is written --name=value or --name value")
	}
	return values, strangers(fs.Args())
}

// strangers returns a mistake for each argument that is no flag of this program.
func strangers(args []string) error {
	var mistakes []error
	for _, arg := range args {
		switch {
		case strings.HasPrefix(arg, "--"):
			mistakes = append(mistakes, fmt.Errorf("%.40s: no such flag", leadingName(arg)))
		case strings.HasPrefix(arg, "-"):
			mistakes = append(mistakes, fmt.Errorf("%.2q: no such flag; flags begin with two dashes", arg))
		}
	}
	// The values of unknown flags are left over too, so that other arguments mean something only when there are none.
	if n := len(args); n > 0 && mistakes == nil {
		mistakes = append(mistakes, fmt.Errorf("%d argument(s) that belong to no flag; a switch is turned off by --name=false", n))
	}
	return errors.Join(mistakes...)
}

// leadingName is the part of an argument that can be meant as a flag's name.
func leadingName(arg string) string {
	end := strings.IndexFunc(arg, func(r rune) bool { return r != '-' && r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	if end < 0 {
		return arg
	}
	return arg[:end]
}

// readEnv returns what the environment says. An empty variable counts as absent, as compose files make them. A variable
// with our prefix that names no setting is noted and not refused: container platforms make up such names for a service
// that is called coatcheck.
func readEnv(table []setting, environ []string) (values map[string]given, notes []string) {
	values = make(map[string]given)
	byEnv := make(map[string]string, len(table))
	for i := range table {
		if !table[i].flagOnly {
			byEnv[table[i].env()] = table[i].name
		}
	}
	for _, pair := range environ {
		variable, text, _ := strings.Cut(pair, "=")
		name, known := byEnv[variable]
		switch {
		case known && text != "":
			values[name] = given{text, variable}
		case !known && strings.HasPrefix(variable, envPrefix) && !serviceVariable(variable):
			notes = append(notes, fmt.Sprintf("the environment variable %.60s names no flag and is ignored", variable))
		}
	}
	slices.Sort(notes)
	return values, notes
}

// serviceVariable: Kubernetes tells every container of a namespace about a Service "coatcheck" in such variables.
func serviceVariable(variable string) bool {
	return strings.HasPrefix(variable, envPrefix+"SERVICE_") || strings.HasPrefix(variable, envPrefix+"PORT")
}

// apply sets every setting from what was given, or else from its default, which it adds to values; and returns the
// mistakes by the setting's name.
func apply(c *Config, table []setting, values map[string]given) map[string]error {
	mistakes := make(map[string]error)
	for i := range table {
		s := &table[i]
		v, ok := values[s.name]
		if !ok {
			v = given{s.def, fromDefault}
			if c.Dev && s.dev != "" {
				v = given{s.dev, fromDev}
			}
			values[s.name] = v
			if v.text == "" {
				continue
			}
		}
		if _, err := s.kind.set(v.text); err != nil {
			mistakes[s.name] = s.mistake(v, err)
		}
	}
	return mistakes
}

// mistake says what is wrong with the value of the setting of that name.
func (c *Config) Mistake(name string, err error) error {
	return c.byName[name].mistake(c.given[name], err)
}

// mistake says what is wrong with a setting's value, and where the value stands.
func (s *setting) mistake(v given, err error) error {
	if v == (given{"", fromDefault}) {
		return fmt.Errorf("--%s: %w", s.name, err)
	}
	if s.secret {
		return fmt.Errorf("--%s: %w (value not shown; %s)", s.name, err, v.from)
	}
	return fmt.Errorf("--%s %.100q: %w (%s)", s.name, v.text, err, v.from)
}
