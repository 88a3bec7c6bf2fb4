package config

import "strings"

// Info describes a setting to the person who sets it, for help that is not --help.
type Info struct {
	Name  string
	Group string
	Env   string
	Noun  string   // what its value is; empty for a switch
	Words []string // the values that there are, if they are few
	Help  string   // with the default, as --help has it
}

// Settings are all settings of serve, in the order of --help.
func Settings() (all []Info) {
	table := settings(new(Config))
	for i := range table {
		s := &table[i]
		info := Info{Name: s.name, Group: s.group, Env: s.env(), Noun: s.kind.noun, Help: s.help + s.defaults()}
		if strings.Contains(info.Noun, "|") && strings.ToLower(info.Noun) == info.Noun && !strings.Contains(info.Noun, ":") {
			info.Words = strings.Split(info.Noun, "|")
		}
		all = append(all, info)
	}
	return all
}

// IsFile reports whether the value is the name of a file or folder.
func (i Info) IsFile() bool { return i.Noun == "file" || i.Noun == "directory" }
