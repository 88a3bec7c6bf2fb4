// Command testsummary reads the output of `go test -json` and prints a summary: a line for each package, the whole output of
// failing tests, and at the end how many tests passed and which took longest. It copies the output of all tests to the file
// that -all names. Its exit status is 1 if a test failed, so that a pipe keeps that of go test.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	all := flag.String("all", "", "the file to which all that tests say is copied")
	slowest := flag.Int("slowest", 20, "how many of the slowest tests are listed")
	flag.Parse()
	failed, err := run(os.Stdin, os.Stdout, *all, *slowest)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "testsummary:", err)
		os.Exit(2)
	case failed:
		os.Exit(1)
	}
}

// run opens the file for all output, and summarizes.
func run(in io.Reader, out io.Writer, all string, slowest int) (failed bool, err error) {
	said := io.Discard
	if all != "" {
		f, err := os.Create(all) //nolint:gosec // the file that whoever runs this names
		if err != nil {
			return false, err
		}
		defer f.Close() //nolint:errcheck // a copy for whoever looks for more
		said = f
	}
	s := &summary{out: out, all: said, packages: make(map[string]*tested)}
	if err := s.read(in); err != nil {
		return false, err
	}
	s.finish(slowest)
	return s.failed > 0 || s.broken, nil
}

// event is a line of `go test -json` (go doc test2json).
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

// summary is what was read so far.
type summary struct {
	out, all       io.Writer
	packages       map[string]*tested // packages whose tests run
	times          []timed
	passed, failed int  // tests, without subtests
	broken         bool // a package failed
}

type timed struct {
	name    string
	seconds float64
}

// tested is a package whose tests run.
type tested struct {
	said  map[string]*strings.Builder // by test; "" is the package's own
	order []string                    // of the keys
	done  map[string]bool             // the tests that passed or were skipped
}

func (s *summary) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil {
				s.take(&e)
			} else { // a line that is not from go test -json
				say(s.out, "%s", line)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// say writes to a terminal or a file. Its error is ignored, because it could not be reported anywhere else.
func say(to io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(to, format, args...) }

func (s *summary) take(e *event) {
	if e.Action == "build-output" { // an error of the compiler
		say(s.out, "%s", e.Output)
		return
	}
	p := s.packages[e.Package]
	if p == nil {
		p = &tested{said: make(map[string]*strings.Builder), done: make(map[string]bool)}
		s.packages[e.Package] = p
	}
	switch e.Action {
	case "output":
		say(s.all, "%s", e.Output)
		p.say(e)
		if e.Test == "" && closing(e.Output) {
			say(s.out, "%s", e.Output)
		}
	case "pass", "skip", "fail":
		s.end(p, e)
	}
}

// closing reports whether a line is the one with which go test ends a package.
func closing(line string) bool {
	for _, begin := range []string{"ok  \t", "FAIL\t", "?   \t"} {
		if strings.HasPrefix(line, begin) {
			return true
		}
	}
	return strings.HasPrefix(line, "\t") && strings.Contains(line, "coverage:") // a package without tests
}

func (p *tested) say(e *event) {
	b := p.said[e.Test]
	if b == nil {
		b = new(strings.Builder)
		p.said[e.Test] = b
		p.order = append(p.order, e.Test)
	}
	b.WriteString(e.Output)
}

func (s *summary) end(p *tested, e *event) {
	bad := e.Action == "fail"
	if e.Test == "" {
		delete(s.packages, e.Package)
		if bad {
			s.broken = true
			s.show(p, e.Package)
		}
		return
	}
	if !bad {
		p.done[e.Test] = true
		delete(p.said, e.Test) // the test passed: only the copy has its output
	}
	if strings.Contains(e.Test, "/") {
		return
	}
	if bad {
		s.failed++
	} else {
		s.passed++
	}
	s.times = append(s.times, timed{e.Package + "." + e.Test, e.Elapsed})
}

// show prints the output of the tests that did not pass, including those that a panic or the time limit cut off.
func (s *summary) show(p *tested, name string) {
	for _, test := range p.order {
		if b := p.said[test]; b != nil && test != "" && !p.done[test] {
			say(s.out, "=== %s.%s\n%s", name, test, b)
		}
	}
	if b := p.said[""]; b != nil {
		say(s.out, "=== %s\n%s", name, b)
	}
}

func (s *summary) finish(slowest int) {
	for name, p := range s.packages { // go test was killed
		s.broken = true
		s.show(p, name)
		say(s.out, "FAIL\t%s\tdid not end\n", name)
	}
	slices.SortFunc(s.times, func(a, b timed) int { return cmp.Compare(b.seconds, a.seconds) })
	say(s.out, "The slowest tests:\n")
	for _, t := range s.times[:min(slowest, len(s.times))] {
		say(s.out, "%8.2f s  %s\n", t.seconds, strings.TrimPrefix(t.name, "github.com/coatcheck/coatcheck/"))
	}
	say(s.out, "%d passed, %d failed\n", s.passed, s.failed)
}
