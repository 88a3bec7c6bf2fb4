package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// command is what a page shows somebody to type.
type command struct {
	page   string
	number int    // the line of the page
	line   string // more than one where the shell wants more
	prints string // what the page says that it prints
	shown  bool   // whether the page says so at all
}

func (c command) String() string { return fmt.Sprintf("%s:%d: %s", c.page, c.number, c.line) }

// silent are the languages of blocks that are no commands.
var silent = []string{"go", "js", "json", "yaml", "ini", "lua", ""}

// typed is what looks like a command.
var typed = regexp.MustCompile(`^ *(\$ |(sudo |make |coatcheck )[a-z][a-z-]*( |$))`)

var (
	// fence begins a block, or ends it if it is bare.
	fence = regexp.MustCompile("^ *```([a-z]*)$")
	// fenceLike is what Markdown may take for a fence, also within a list or a quotation: its marks, and what stands behind them.
	fenceLike = regexp.MustCompile("^(?:[ \t>*+-]|[0-9]+[.)])*(```+|~~~+)(.*)$")
)

// parse returns the commands of a page's blocks, and what is wrong with the blocks. A fence that is not understood is a mistake, and
// so is a block without an end: their commands would not be run, and nobody would hear of it.
func parse(page, text string) (commands []command, mistakes []string) {
	wrong := func(i int, what string) { mistakes = append(mistakes, fmt.Sprintf("%s:%d: %s", page, i+1, what)) }
	language, marks, begun := "", "", 0 // marks are those that end the block; there are none outside a block
	understood := false                 // whether the block's beginning is
	var block []string
	for i, line := range strings.Split(text, "\n") {
		m, like := fence.FindStringSubmatch(line), fenceLike.FindStringSubmatch(line)
		switch {
		case marks == "" && m != nil:
			language, marks, begun, understood, block = m[1], "```", i+2, true, nil
		case marks == "" && like != nil:
			wrong(i, "docs-check does not understand this fence: "+line)
			if !strings.Contains(like[2], "`") { // else it is code within a sentence
				marks, begun, understood = like[1], i+2, false
			}
		case marks == "":
		case understood && m != nil && m[1] == "":
			marks = ""
			found, wrongs := parseBlock(page, language, begun, block)
			commands, mistakes = append(commands, found...), append(mistakes, wrongs...)
		case understood && like != nil && strings.HasPrefix(like[1], "`"):
			wrong(i, "a fence within a block, which does not end it: "+line)
		case understood:
			block = append(block, line)
		case like != nil && like[1] == marks && strings.TrimSpace(like[2]) == "":
			marks = ""
		}
	}
	if marks != "" {
		wrong(begun-2, "the block that begins here has no end")
	}
	return commands, mistakes
}

// parseBlock returns the commands of one block, which begins at a line of the page.
func parseBlock(page, language string, begun int, block []string) (commands []command, mistakes []string) {
	at := func(i int) string { return fmt.Sprintf("%s:%d", page, begun+i) }
	switch {
	case language == "console":
		for i, line := range block {
			if rest, ok := strings.CutPrefix(line, "$ "); ok {
				commands = append(commands, command{page: page, number: begun + i, line: rest, shown: true})
			} else if len(commands) > 0 {
				commands[len(commands)-1].prints += line + "\n"
			} else {
				mistakes = append(mistakes, at(i)+": a console block begins with a command behind a prompt")
			}
		}
	case language == "sh":
		for i := 0; i < len(block); i++ {
			c := command{page: page, number: begun + i, line: block[i]}
			for i+1 < len(block) && unfinished(c.line) {
				i++
				c.line += "\n" + block[i]
			}
			if rest := strings.TrimSpace(c.line); rest != "" && !strings.HasPrefix(rest, "#") {
				commands = append(commands, c)
			}
		}
	case !slices.Contains(silent, language):
		mistakes = append(mistakes, at(-1)+": blocks of "+language+" are not known to docs-check")
	case language == "":
		for i, line := range block {
			if typed.MatchString(line) {
				mistakes = append(mistakes, at(i)+": a command in a block without a language is not run: make it console or sh")
			}
		}
	}
	return commands, mistakes
}

// unfinished tells whether a shell would wait for more of a command.
func unfinished(line string) bool {
	return strings.HasSuffix(line, `\`) || exec.Command("bash", "-n", "-c", line).Run() != nil //nolint:noctx // parses one line
}
