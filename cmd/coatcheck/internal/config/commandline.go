package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/spf13/pflag"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/suggest"
)

// recorder is a flag's value that keeps the text as it was typed. An invalid value does not end the parsing, because all
// mistakes are reported together.
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

// readFlags returns the settings on the command line, and the arguments that belong to no flag. An argument that is not
// understood may be a secret whose flag is missing, so a mistake repeats nothing of it but a flag's name.
func readFlags(table []setting, args []string) (values map[string]given, rest []string, err error) {
	values = make(map[string]given)
	fs := pflag.NewFlagSet("coatcheck", pflag.ContinueOnError)
	fs.Usage = func() {}
	fs.ParseErrorsAllowlist.UnknownFlagsHandling = pflag.PassUnknownFlagToArgs
	for i := range table {
		f := fs.VarPF(&recorder{into: values, of: &table[i]}, table[i].name, "", table[i].help)
		if table[i].kind.noun == "" {
			f.NoOptDefVal = "true"
		}
	}
	var missing *pflag.ValueRequiredError
	parsing := fs.Parse(args)
	switch {
	case errors.Is(parsing, pflag.ErrHelp):
		return nil, nil, ErrHelp
	case errors.As(parsing, &missing):
		parsing = fmt.Errorf("--%s: needs a value", missing.GetSpecifiedName())
	case parsing != nil:
		parsing = errors.New("an argument is not understood: a flag is written --name=value or --name value")
	}
	rest = fs.Args()
	flags := rest
	if n := fs.ArgsLenAtDash(); n >= 0 {
		flags = rest[:n] // after -- everything is an argument
	}
	return values, rest, errors.Join(unknownFlags(table, flags), parsing)
}

// unknownFlags returns a mistake for each argument that looks like a flag and is no flag of this program. The values of
// unknown flags are among the arguments too, so the other arguments are judged only if there is no such mistake.
func unknownFlags(table []setting, args []string) error {
	var mistakes []error
	for _, arg := range args {
		switch {
		case strings.HasPrefix(arg, "--"):
			name := flagName(arg)
			mistakes = append(mistakes, fmt.Errorf("%.40s: no such flag%s", name, suggest.DidYouMean(strings.TrimPrefix(name, "--"), "--", names(table))))
		case strings.HasPrefix(arg, "-"):
			mistakes = append(mistakes, fmt.Errorf("%.2q: no such flag; flags begin with two dashes", arg))
		}
	}
	return errors.Join(mistakes...)
}

// names are those of all settings.
func names(table []setting) (all []string) {
	for i := range table {
		all = append(all, table[i].name)
	}
	return all
}

// flagName returns the part of an argument that may be meant as a flag's name.
func flagName(arg string) string {
	end := strings.IndexFunc(arg, func(r rune) bool { return r != '-' && r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	if end < 0 {
		return arg
	}
	return arg[:end]
}
