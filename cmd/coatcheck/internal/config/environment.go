package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/suggest"
)

// readEnvironment returns the settings in the environment. An empty variable counts as absent, because compose files produce
// such variables. A variable with our prefix that names no setting is noted and not refused: container platforms invent such
// names for a service that is called coatcheck.
func readEnvironment(table []setting, environ []string) (values map[string]given, notes []string) {
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
			values[name] = given{text: text, from: variable}
		case !known && strings.HasPrefix(variable, envPrefix) && !serviceVariable(variable):
			notes = append(notes, fmt.Sprintf("the environment variable %.60s names no flag and is ignored%s", variable,
				suggest.DidYouMean(variable, "", slices.Sorted(maps.Keys(byEnv)))))
		}
	}
	slices.Sort(notes)
	return values, notes
}

// serviceVariable reports whether the variable is one of those in which Kubernetes tells every container of a namespace about a
// Service that is called coatcheck.
func serviceVariable(variable string) bool {
	return strings.HasPrefix(variable, envPrefix+"SERVICE_") || strings.HasPrefix(variable, envPrefix+"PORT")
}
