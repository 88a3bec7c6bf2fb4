package config

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A time without an offset means another moment on each machine, and one that is still to come would end every session that begins
// before it. With neither may the server start, wherever the time stands.
func TestSessionsNotBefore(t *testing.T) {
	ahead := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	const noOffset, tooLate = "has no offset from UTC", "is more than a minute ahead"
	for name, tt := range map[string]struct {
		text    string // as the flag or the variable has it; empty: the file alone
		file    string // as a TOML value; empty: the text between quotes
		mistake string // empty: none
	}{
		"UTC":                       {text: "2026-11-23T16:00:00Z"},
		"an offset":                 {text: "2026-11-23T16:00:00+09:00"},
		"a fraction":                {text: "2026-11-23T16:00:00.25Z"},
		"TOML's own, UTC":           {file: "2026-11-23T16:00:00Z"},
		"TOML's own, an offset":     {file: "2026-11-23 16:00:00-07:00"},
		"half a minute ahead":       {text: ahead(30 * time.Second)},
		"no offset":                 {text: "2026-11-23T16:00:00", mistake: noOffset},
		"no offset, a fraction":     {text: "2026-11-23T16:00:00.5", mistake: noOffset},
		"no offset, a space":        {text: "2026-11-23 16:00:00", mistake: noOffset},
		"no offset, no seconds":     {text: "2026-11-23T16:00", mistake: noOffset},
		"a date":                    {text: "2026-11-23", mistake: noOffset},
		"TOML's own, no offset":     {file: "2026-11-23T16:00:00", mistake: noOffset},
		"TOML's own, with a space":  {file: "2026-11-23 16:00:00.123456", mistake: noOffset},
		"TOML's own date":           {file: "2026-11-23", mistake: noOffset},
		"TOML's own time of day":    {file: "16:00:00", mistake: "not a time such as 2026-11-23T16:00:00Z"},
		"TOML's own, far ahead":     {file: "2100-01-01T00:00:00Z", mistake: tooLate},
		"two minutes ahead":         {text: ahead(2 * time.Minute), mistake: tooLate},
		"ahead by the offset alone": {text: time.Now().UTC().Format("2006-01-02T15:04:05") + "-01:00", mistake: tooLate},
		"a hundred years ahead":     {text: "2126-11-26T16:00:00Z", mistake: tooLate},
		"a comma":                   {text: "2026-11-23T16:00:00,5Z", mistake: "not a time such as"},
		"an hour of one digit":      {text: "2026-11-23T6:00:00Z", mistake: "not a time such as"},
		"an offset of a day":        {text: "2026-11-23T16:00:00+24:00", mistake: "not a time such as"},
		"no seconds":                {text: "2026-11-23T16:00Z", mistake: "not a time such as"},
		"TOML's own, no seconds":    {file: "2026-11-23T16:00Z"}, // TOML 1.1 has it, and it means one moment
		"no time":                   {text: "yesterday", mistake: "not a time such as 2026-11-23T16:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			file := tt.file
			if file == "" {
				file = `"` + tt.text + `"`
			}
			_, err := Load([]string{"--dev", "--config", write(t, "sessions-not-before = "+file+"\n")}, nil)
			if tt.mistake == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tt.mistake)
				assert.ErrorContains(t, err, "--sessions-not-before")
			}
			if tt.text == "" {
				return
			}
			_, byFlag := Load([]string{"--dev", "--sessions-not-before", tt.text}, nil)
			_, byVariable := Load([]string{"--dev"}, []string{"COATCHECK_SESSIONS_NOT_BEFORE=" + tt.text})
			for _, err := range []error{byFlag, byVariable} {
				if tt.mistake == "" {
					assert.NoError(t, err)
				} else {
					assert.ErrorContains(t, err, tt.mistake)
				}
			}
		})
	}
}
