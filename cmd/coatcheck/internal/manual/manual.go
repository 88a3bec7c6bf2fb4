package manual

import "github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"

// Command is a command of the program.
type Command struct {
	Name  string
	Args  string // its arguments, as a line of usage has them
	About string // what it does, in a few words
	// Words are what its first argument may be, such as list and revoke.
	Words []string
	// Flags are its own flags, beside those of serve.
	Flags []config.Info
	// Settings says that it takes the flags of serve.
	Settings bool
}

// flags are all flags of the command.
func (c *Command) flags() []config.Info {
	all := append([]config.Info(nil), c.Flags...)
	if c.Settings {
		all = append(all, config.Settings()...)
	}
	return append(all, config.Info{Name: "help", Help: "print what the command does"})
}

// Shells are those that Completion knows.
var Shells = []string{"bash", "zsh", "fish"}

// Completion returns the script that makes a shell complete the commands; false: there is no such shell.
func Completion(shell string, commands []Command) (script string, known bool) {
	switch shell {
	case "bash":
		return bash(commands), true
	case "zsh":
		return zsh(commands), true
	case "fish":
		return fish(commands), true
	default:
		return "", false
	}
}
