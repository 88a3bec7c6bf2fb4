// Command store measures coatcheck's memory store beside other ways to keep sessions in a Go process. It is a module of its
// own, so that none of them enters coatcheck's. Use it through `make bench-store` and `make store-report`.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// result is what a run found: the contents of its JSON file.
type result struct {
	Machine string
	N       int
	Memory  []memory
	Storm   []storm
	Restore restored
	Login   []logins
}

func main() {
	log.SetFlags(0)
	var (
		n      = flag.Int("n", 1_000_000, "sessions")
		sizes  = flag.String("bytes", "128,256", "what a record encodes to, one run each")
		only   = flag.String("only", "", "these subjects only, by name")
		out    = flag.String("out", "", "JSON file to write")
		child  = flag.String("child", "", "what this process measures (for the command itself)")
		report = flag.String("report", "", "JSON file to put into -table and -plot")
		table  = flag.String("table", "", "Markdown file whose part between the marks is replaced")
		plot   = flag.String("plot", "", "SVG file to write")
	)
	flag.Parse()
	switch {
	case *report != "":
		if err := writeReport(*report, *table, *plot); err != nil {
			log.Fatal(err)
		}
	case *child != "":
		if err := measure(*child, *n); err != nil {
			log.Fatal(err)
		}
	default:
		if err := run(*n, strings.Split(*sizes, ","), *only, *out); err != nil {
			log.Fatal(err)
		}
	}
}

// measure prints what one child finds, as JSON. A child measures one thing, so that no heap is another's.
func measure(what string, n int) error {
	name, arg, _ := strings.Cut(what, "/")
	var found any
	var err error
	switch name {
	case "memory":
		subject, size, _ := strings.Cut(arg, "/")
		bytes, _ := strconv.Atoi(size)
		found, err = measureMemory(subject, n, bytes)
	case "storm":
		found, err = measureStorm(n)
	case "restore":
		found, err = measureRestore()
	case "login":
		found, err = measureLogins(n)
	default:
		err = fmt.Errorf("nothing is called %q", what)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

func run(n int, sizes []string, only, out string) error {
	r := result{Machine: fmt.Sprintf("%s, %d cores, %s", cpuModel(), runtime.NumCPU(), runtime.Version()), N: n}
	for _, size := range sizes {
		for _, s := range subjects {
			if only != "" && !strings.Contains(","+only+",", ","+s.name+",") {
				continue
			}
			var m memory
			if err := inChild("memory/"+s.name+"/"+size, n, &m); err != nil {
				log.Printf("%s: %v", s.name, err) // as many as fit in memory
				continue
			}
			log.Printf("%+v", m)
			r.Memory = append(r.Memory, m)
		}
	}
	for what, into := range map[string]any{"storm": &r.Storm, "restore": &r.Restore, "login": &r.Login} {
		if err := inChild(what, n, into); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		log.Printf("%s: %+v", what, into)
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil || out == "" {
		return err
	}
	return os.WriteFile(out, append(b, '\n'), 0o600)
}

func inChild(what string, n int, into any) error {
	cmd := exec.Command(os.Args[0], "-child", what, "-n", strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo") // not there on other systems
	for line := range strings.Lines(string(b)) {
		if _, model, ok := strings.Cut(line, "model name\t: "); ok {
			return strings.TrimSpace(model)
		}
	}
	return runtime.GOARCH
}
