package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// readFile returns what the configuration file says. Its mistakes name the file and the line or the key, and never a value:
// the parser's own words quote the text that it stumbled upon, which may be half a password.
func readFile(byName map[string]*setting, path given) (map[string]given, error) {
	data, err := os.ReadFile(path.text)
	if err != nil {
		return nil, byName["config"].mistake(path, errors.Unwrap(err))
	}
	var content map[string]any
	if _, err := toml.Decode(string(data), &content); err != nil {
		return nil, byName["config"].mistake(path, syntax(err))
	}
	values := make(map[string]given)
	var mistakes []error
	for key, value := range content {
		text, ok := plain(value)
		switch {
		case byName[key] == nil || byName[key].flagOnly || key == "config":
			mistakes = append(mistakes, fmt.Errorf("%.40q: no such setting (%s)", key, path.text))
		case !ok:
			mistakes = append(mistakes, fmt.Errorf("--%s: must be text, a number, true or false, or a list of them (%s)", key, path.text))
		default:
			values[key] = given{text, path.text}
		}
	}
	slices.SortFunc(mistakes, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return values, errors.Join(mistakes...)
}

func syntax(err error) error {
	var parse toml.ParseError
	if errors.As(err, &parse) {
		return fmt.Errorf("line %d is not TOML; text stands between quotes", parse.Position.Line)
	}
	return errors.New("not TOML")
}

// plain is the text that one would give for a TOML value on the command line.
func plain(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case time.Time:
		return v.Format(time.RFC3339), true
	case []any:
		parts := make([]string, len(v))
		for i, element := range v {
			var ok bool
			if parts[i], ok = plain(element); !ok {
				return "", false
			}
		}
		return strings.Join(parts, ","), true
	default:
		return "", false
	}
}
