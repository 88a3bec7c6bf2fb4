// Command docscheck runs the commands that README.md, CONTRIBUTING.md and the pages of docs show in blocks, as a new user or an
// operator would type them, and compares what they print with what the pages say. scripts/docs-check starts it in a clone of its
// own and with a network of its own, so that ports are free and nothing outside is reached.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: docscheck CLONE")
		os.Exit(2)
	}
	ran, mistakes := check(os.Args[1])
	for _, m := range mistakes {
		fmt.Fprintln(os.Stderr, m)
	}
	for page, why := range unrunPages {
		fmt.Printf("not run here: %s, all of it: %s\n", page, why)
	}
	listed := 0
	for _, r := range rules {
		if r.unrun != "" {
			fmt.Printf("not run here: %s: %s…: %s\n", r.page, r.begins, r.unrun)
			listed++
		}
	}
	fmt.Printf("docs-check: commands of the pages: %d ran, %d are not run here; pages not run here: %d; mistakes: %d\n", ran, listed, len(unrunPages), len(mistakes))
	if len(mistakes) > 0 {
		os.Exit(1)
	}
}

// check runs the pages of a clone, and returns how many commands it ran and what is wrong.
func check(clone string) (ran int, mistakes []string) {
	pages, err := filepath.Glob(filepath.Join(clone, "docs", "*.md"))
	if err != nil || len(pages) == 0 {
		return 0, []string{"no pages in " + clone}
	}
	pages = append([]string{filepath.Join(clone, "README.md"), filepath.Join(clone, "CONTRIBUTING.md")}, pages...)
	var all []command
	for _, path := range pages {
		name, _ := filepath.Rel(clone, path) // both begin with the clone
		text, err := os.ReadFile(path)       //nolint:gosec // a page of the clone
		if err != nil {
			return ran, []string{err.Error()}
		}
		commands, wrong := parse(name, string(text))
		all, mistakes = append(all, commands...), append(mistakes, wrong...)
		if len(commands) == 0 || unrunPages[name] != "" {
			continue
		}
		n, wrong := runPage(clone, name, commands)
		ran, mistakes = ran+n, append(mistakes, wrong...)
	}
	return ran, append(mistakes, unused(all)...)
}

// unused returns a mistake for each rule that is about no command of the pages, or about more than one.
func unused(commands []command) (mistakes []string) {
	for _, r := range rules {
		if n := len(slices.Collect(func(yield func(command) bool) {
			for _, c := range commands {
				if r.about(c) && !yield(c) {
					return
				}
			}
		})); n != 1 {
			mistakes = append(mistakes, fmt.Sprintf("internal/docscheck/rules.go: %d commands of %s begin with %q", n, r.page, r.begins))
		}
	}
	for page := range unrunPages {
		if !slices.ContainsFunc(commands, func(c command) bool { return c.page == page }) {
			mistakes = append(mistakes, "internal/docscheck/rules.go: no commands are on "+page)
		}
	}
	return mistakes
}

// ruleFor returns what is said of a command; most need nothing.
func ruleFor(c command) rule {
	for _, r := range rules {
		if r.about(c) {
			return r
		}
	}
	return rule{}
}

func (r rule) about(c command) bool { return r.page == c.page && strings.HasPrefix(c.line, r.begins) }
