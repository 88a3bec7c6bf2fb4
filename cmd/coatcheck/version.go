package main

import (
	"io"
	"runtime"
	"runtime/debug"
)

// version is set by the linker if the build knows it better than the Go tool: see the Makefile.
var version string

const versionUsage = `Usage:
  coatcheck version

Prints the version of coatcheck, the version of Go that built it, and the system that it is built for.
`

func runVersion(args []string, stdout, stderr io.Writer) int {
	if asksForHelp(args) {
		return say(stdout, versionUsage)
	}
	if len(args) > 0 {
		return refuseWords("version", args, versionUsage, stderr)
	}
	return say(stdout, "coatcheck "+buildVersion(version, buildInfo())+" "+runtime.Version()+" "+runtime.GOOS+"/"+runtime.GOARCH+"\n")
}

func buildInfo() *debug.BuildInfo {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return new(debug.BuildInfo)
	}
	return info
}

// buildVersion returns the version that the linker set, else the module's version, else the commit, else "unknown": a build
// from a source archive, or with -buildvcs=false, has none of them.
func buildVersion(linked string, info *debug.BuildInfo) string {
	if linked != "" {
		return linked
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	var commit, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if commit == "" {
		return "unknown"
	}
	return commit + dirty
}
