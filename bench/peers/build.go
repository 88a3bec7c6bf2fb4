package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// A builder builds a server, or returns the reason why that is not possible here. It returns the version of the module that the
// server was built with.
type builder func(ctx context.Context, s *settings, module string) (version string, err error)

// build runs a tool. Its error contains the last lines of the output, where tools print the reason.
func build(ctx context.Context, dir string, env []string, name string, args ...string) error {
	if _, err := exec.LookPath(name); err != nil {
		return fmt.Errorf("%s is not installed", name)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		return fmt.Errorf("%s %s: %w: %s", name, args[0], err, strings.Join(lines[max(0, len(lines)-8):], " | "))
	}
	return nil
}

func buildCoatcheck(ctx context.Context, s *settings, _ string) (string, error) {
	bin, version := filepath.Join(s.work, "coatcheck"), describe(ctx, s)
	return version, build(ctx, s.root, nil, "go", "build", "-trimpath", "-ldflags", "-X main.version="+version, "-o", bin, "./cmd/coatcheck")
}

// describe is the version of coatcheck's sources.
func describe(ctx context.Context, s *settings) string {
	git := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty")
	git.Dir = s.root
	out, err := git.Output()
	if err != nil { // a source archive is no git checkout
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// buildGo builds a server in Go.
func buildGo(name string) builder {
	return func(ctx context.Context, s *settings, module string) (string, error) {
		bin := filepath.Join(s.work, "go-"+name)
		if err := build(ctx, here(s), nil, "go", "build", "-trimpath", "-o", bin, "./servers/"+name); err != nil {
			return "", err
		}
		info, err := buildinfo.ReadFile(bin)
		if err != nil {
			return "", err
		}
		switch module {
		case "":
			return describe(ctx, s), nil
		case standard:
			return info.GoVersion, nil
		}
		for _, dep := range info.Deps {
			if dep.Path == module {
				return dep.Version, nil
			}
		}
		return "", fmt.Errorf("%s has no %s in it", bin, module)
	}
}

// buildNode installs the packages of the lock file beside a copy of the scripts, so that no node_modules appears in the source tree.
func buildNode(ctx context.Context, s *settings, module string) (string, error) {
	dir := filepath.Join(s.work, "node")
	var names []string
	for _, pattern := range []string{"*.js*", "*/*.js"} {
		found, err := filepath.Glob(filepath.Join(servers(s), pattern))
		if err != nil {
			return "", err
		}
		names = append(names, found...)
	}
	stale := false
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		relative, err := filepath.Rel(servers(s), name)
		if err != nil {
			return "", err
		}
		target := filepath.Join(dir, relative)
		old, err := os.ReadFile(target)
		if err == nil && bytes.Equal(old, data) {
			continue
		}
		stale = stale || strings.HasSuffix(name, ".json")
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(target, data, 0o644); err != nil {
			return "", err
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "redis")); err != nil || stale {
		// Install scripts stay off: no package here needs one, and no foreign code is to run during a build.
		if err := build(ctx, dir, nil, "npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"); err != nil {
			return "", errors.Join(err, os.RemoveAll(filepath.Join(dir, "node_modules")))
		}
	}
	if _, err := exec.LookPath("node"); err != nil {
		return "", errors.New("node is not installed")
	}
	data, err := os.ReadFile(filepath.Join(dir, "package.json"))
	if err != nil {
		return "", err
	}
	var manifest struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		return "", err
	}
	return manifest.Dependencies[module], nil
}

// buildRust builds one package of the workspace in servers/, each by itself, so that one can be built where another one fails.
func buildRust(name string) builder {
	return func(ctx context.Context, s *settings, module string) (string, error) {
		dir := servers(s)
		target := "CARGO_TARGET_DIR=" + filepath.Join(s.work, "rust")
		if err := build(ctx, dir, []string{target}, "cargo", "build", "--release", "--locked", "-p", name); err != nil {
			return "", err
		}
		lock, err := os.ReadFile(filepath.Join(dir, "Cargo.lock"))
		if err != nil {
			return "", err
		}
		found := regexp.MustCompile(`name = "` + regexp.QuoteMeta(module) + `"\nversion = "([^"]+)"`).FindSubmatch(lock)
		if found == nil {
			return "", fmt.Errorf("no %s in Cargo.lock", module)
		}
		return string(found[1]), nil
	}
}

// here is this module's directory.
func here(s *settings) string { return filepath.Join(s.root, "bench", "peers") }

// servers is the directory that holds a directory for each server.
func servers(s *settings) string { return filepath.Join(here(s), "servers") }
