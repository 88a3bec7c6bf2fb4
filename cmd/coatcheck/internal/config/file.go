package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/suggest"
)

// fileMistake is what is wrong with a key of the file.
type fileMistake struct {
	name string // the setting's; any text, if there is no such setting
	err  error
}

// readFile returns the settings in the configuration file, and the mistakes of its keys, in the order of the texts. The error
// says why the file could not be read at all. No text contains a value of the file. The parser's own messages are not used,
// because they quote the input, which may be a part of a password.
func readFile(byName map[string]*setting, path string) (map[string]given, []fileMistake, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, nil, errors.Unwrap(err)
	}
	var content map[string]any
	if _, err := toml.Decode(string(data), &content); err != nil {
		return nil, nil, syntaxError(err, string(data), byName)
	}
	values := make(map[string]given)
	var mistakes []fileMistake
	known := slices.DeleteFunc(slices.Sorted(maps.Keys(byName)), func(name string) bool { return byName[name].flagOnly || name == "config" })
	for key, value := range content {
		text, ok := plain(value)
		switch {
		case byName[key] == nil || byName[key].flagOnly || key == "config":
			mistakes = append(mistakes, fileMistake{key, fmt.Errorf("%.40q: no such setting%s (%s)", key, suggest.DidYouMean(key, "", known), path)})
		case !ok:
			mistakes = append(mistakes, fileMistake{key, fmt.Errorf("--%s: must be text, a number, true or false, or a list of them (%s)", key, path)})
		default:
			values[key] = given{text: text, from: path}
		}
	}
	slices.SortFunc(mistakes, func(a, b fileMistake) int { return strings.Compare(a.err.Error(), b.err.Error()) })
	return values, mistakes, nil
}

// syntaxError says which line of the file is wrong, and which setting the line is about.
func syntaxError(err error, data string, byName map[string]*setting) error {
	var parse toml.ParseError
	if errors.As(err, &parse) {
		line := fmt.Sprintf("line %d", parse.Position.Line)
		s := byName[parse.LastKey]
		if lines := strings.Split(data, "\n"); s == nil && 0 < parse.Position.Line && parse.Position.Line <= len(lines) {
			key, _, _ := strings.Cut(lines[parse.Position.Line-1], "=") // the reader knows it no more once it has read a value
			s = byName[strings.Trim(key, " \t\"'")]
		}
		if s != nil { // any other key may be a part of a secret
			line += " (--" + s.name + ")"
		}
		switch message := parse.Error(); { // which may quote a secret, and has no kinds
		case strings.Contains(message, "has already been defined"):
			return fmt.Errorf("%s sets again what an earlier line has set", line)
		case strings.Contains(message, "invalid UTF-8"):
			return fmt.Errorf("%s is not UTF-8", line)
		case strings.HasPrefix(parse.Message, "invalid datetime"):
			return fmt.Errorf("%s has a date or a time that does not exist; text stands between quotes", line)
		}
		return fmt.Errorf("%s is not TOML; text stands between quotes", line)
	}
	return errors.New("not TOML")
}

// plain returns a TOML value as one would write it on the command line.
func plain(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case time.Time:
		return timeText(v), true
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

// timeText returns a time as the file has it. A time without an offset stays without one: TOML calls it local, the parser
// gives it the offset of this machine and a location with one of these names, and it would mean another moment on each
// machine.
func timeText(t time.Time) string {
	switch t.Location().String() {
	case "datetime-local":
		return t.Format("2006-01-02T15:04:05.999999999")
	case "date-local":
		return t.Format(time.DateOnly)
	case "time-local":
		return t.Format("15:04:05.999999999")
	default:
		return t.Format(time.RFC3339Nano)
	}
}
