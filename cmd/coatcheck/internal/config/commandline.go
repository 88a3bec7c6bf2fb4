package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/suggest"
)

// AsksForHelp reports whether an argument asks for help, where it is not the value of a flag.
func AsksForHelp(arg string) bool { return slices.Contains([]string{"-h", "--help", "-help"}, arg) }

// ReadFlags reads the flags of a command that takes no settings, and returns the arguments that belong to no flag. The error is ErrHelp, or
// all mistakes, joined; none of them contains the value of a flag.
func ReadFlags(args []string, flags ...Flag) (rest []string, err error) {
	c := &Config{byName: make(map[string]*setting)}
	var table []setting
	for _, f := range flags {
		table = append(table, setting(f))
	}
	said, rest, err := readFlags(table, args)
	if err != nil {
		return rest, err
	}
	c.given = said
	var mistakes []error
	for _, err := range c.apply(table) {
		mistakes = append(mistakes, err)
	}
	return rest, errors.Join(mistakes...)
}

// readFlags returns the settings on the command line as texts, which are checked later because all mistakes are reported together, and
// the arguments that belong to no flag. What stands behind a mistake may be its value, so those arguments say something only without one.
func readFlags(table []setting, args []string) (values map[string]given, rest []string, err error) {
	values = make(map[string]given)
	var mistakes []error
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" { // after it everything is an argument
			rest = append(rest, args...)
			break
		}
		if AsksForHelp(arg) {
			return nil, nil, ErrHelp
		}
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			rest = append(rest, arg)
			continue
		}
		name, text, hasText := strings.Cut(arg, "=")
		i := slices.IndexFunc(table, func(s setting) bool { return "--"+s.name == name })
		switch {
		case i < 0:
			mistakes = append(mistakes, noFlag(table, arg))
			continue
		case hasText:
		case table[i].kind.noun == "":
			text = "true"
		case len(args) == 0:
			mistakes = append(mistakes, fmt.Errorf("%s: needs a value", name))
			continue
		default:
			text, args = args[0], args[1:]
		}
		values[table[i].name] = values[table[i].name].with(text, table[i].kind.joins)
	}
	return values, rest, errors.Join(mistakes...)
}

// with returns what is given by one more text on the command line, where joins is what joins several; empty: the last one counts.
func (v given) with(text, joins string) given {
	if joins == "" {
		return given{text: text, from: fromFlags}
	}
	v.from, v.each = fromFlags, append(v.each, text)
	if v.text != "" && text != "" {
		text = joins + text
	}
	v.text += text
	return v
}

// noFlag is the mistake of an argument that looks like a flag and is none of this program. It may be a secret whose flag is missing, or
// end in one (-ps3cret), so nothing of it is repeated but what is meant as a flag's name.
func noFlag(table []setting, arg string) error {
	name := flagName(arg)
	bare := strings.TrimLeft(name, "-")
	meant := suggest.DidYouMean(bare, "--", names(table))
	switch {
	case bare == "" || strings.HasPrefix(arg, "---"):
		return errors.New("an argument is not understood: a flag is written --name=value or --name value")
	case strings.HasPrefix(arg, "--"):
		return fmt.Errorf("%.40s: no such flag%s", name, meant)
	case meant != "":
		return fmt.Errorf("%.40s: no such flag; flags begin with two dashes%s", name, meant)
	default:
		return fmt.Errorf("%.2q: no such flag; flags begin with two dashes", arg)
	}
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
