package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Mistake says what is wrong with the value of the setting of that name, and where the value stands.
func (c *Config) Mistake(name string, err error) error {
	return c.byName[name].mistake(c.given[name], err)
}

// mistake says what is wrong with a setting's value, and where the value stands.
func (s *setting) mistake(v given, err error) error {
	switch {
	case v.text == "" && v.from == fromDefault:
		return fmt.Errorf("--%s: %w", s.name, err)
	case s.secret: // what judges such a value takes care of what it says
		return fmt.Errorf("--%s: %w (value not shown; %s)", s.name, err, v.from)
	default:
		return fmt.Errorf("--%s %.100q: %w (%s)", s.name, shown(v.text), v.hidden(err), v.from)
	}
}

// shown returns a value without what may be the password of a URL, before an @, and without the query and the fragment. It does not ask
// whether the value is a URL: one that is none may be one with a slip in it.
func shown(text string) string {
	colon, at := strings.Index(text, ":"), strings.LastIndex(text, "@")
	if 0 <= colon && colon < at {
		text = text[:colon+1] + "…" + text[at:]
	}
	if i := strings.IndexAny(text, "?#"); i >= 0 {
		text = text[:i+1] + "…"
	}
	return text
}

var quoted = regexp.MustCompile(`"(\\.|[^"\\])*"`)

// hidden returns the error of a value without what it repeats of it, all of it or a part between quotes, if not all of the value may be
// shown. Of a list that counts for the text that the error is about.
func (v given) hidden(err error) error {
	if shown(v.text) == v.text || v.isOfShown(err) {
		return err
	}
	return errors.New(quoted.ReplaceAllLiteralString(strings.ReplaceAll(err.Error(), v.text, "…"), `"…"`))
}

// isOfShown reports whether the error names first, between quotes, an entry of a text all of which may be shown.
func (v given) isOfShown(err error) bool {
	first := quoted.FindString(err.Error())
	return slices.ContainsFunc(v.each, func(one string) bool {
		return shown(one) == one && slices.ContainsFunc(strings.Split(one, ","), func(entry string) bool { return strconv.Quote(entry) == first })
	})
}
