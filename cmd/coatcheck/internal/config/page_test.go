package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

// docs/configuration.md is made from the table of settings, so that it cannot say anything else.
func TestConfigurationPage(t *testing.T) {
	const file = "../../../../docs/configuration.md"
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(configurationPage()), 0o644)) //nolint:gosec // a page for everybody
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, configurationPage(), string(text), "go test ./cmd/coatcheck/internal/config -run TestConfigurationPage -update")
}

const configurationHead = `# Configuration

Every setting of ` + "`coatcheck serve`" + `, made from its table of flags by ` + "`go test ./cmd/coatcheck/internal/config -run TestConfigurationPage -update`" + `.

Each is a flag (` + "`--max-lifetime 12h`" + `), an environment variable (` + "`COATCHECK_MAX_LIFETIME=12h`" + `) and, by the flag's name, a key of the TOML file that
` + "`--config`" + ` names (` + "`max-lifetime = \"12h\"`" + `). A flag wins over the environment, the environment over the file; an empty variable counts as
absent. A switch is turned off by ` + "`--name=false`" + `. Lists are written with commas between, or given several times, or as a list in the
file. Durations are like ` + "`500ms`, `30m`, `12h`" + `; sizes like ` + "`512KiB`, `64MiB`" + `; times as RFC 3339 has them.

A configuration with mistakes is refused with exit code 2, all of them at once. ` + "`coatcheck doctor`" + ` takes the same settings and says what will go
wrong with one that has none. A setting is a mistake that the store or the login mode does not read and on which somebody may rely
(` + "`redis-wait-replicas`, `data-dir`, `oidc-…`, `users-file`" + ` and the like), wherever it stands, unless it says the default.
`

func configurationPage() string {
	var b strings.Builder
	b.WriteString(configurationHead)
	table := settings(new(Config))
	cell := strings.NewReplacer("|", `\|`)
	for i := range table {
		s := &table[i]
		if i == 0 || table[i-1].group != s.group {
			fmt.Fprintf(&b, "\n## %s\n\n| flag | variable | default | |\n| --- | --- | --- | --- |\n", s.group)
		}
		name := "`--" + s.name
		if s.kind.noun != "" {
			name += " " + cell.Replace(s.kind.noun)
		}
		def := "none"
		switch {
		case s.def != "":
			def = "`" + s.def + "`"
		case s.unset != "":
			def = s.unset
		}
		if s.dev != "" {
			def += ", with `--dev` `" + s.dev + "`"
		}
		help := cell.Replace(s.help)
		fmt.Fprintf(&b, "| %s` | `%s` | %s | %s |\n", name, s.env(), def, help)
	}
	return b.String()
}
