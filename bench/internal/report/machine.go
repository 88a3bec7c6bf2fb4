package report

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Machine is the machine that a result was found on. On systems without /proc the fields that come from there are empty.
type Machine struct {
	CPU       string  `json:"cpu"`
	Cores     int     `json:"cores"`
	MemoryGiB float64 `json:"memory_gib"`
	Kernel    string  `json:"kernel"`
	// Load is the load average of the minute before the measurement: it shows what else the machine was doing.
	Load string `json:"load"`
}

// ThisMachine describes the machine that this process runs on.
func ThisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), CPU: field("/proc/cpuinfo", "model name")}
	if m.CPU == "" {
		m.CPU = runtime.GOARCH
	}
	var kib float64
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%f", &kib); err == nil {
		m.MemoryGiB = float64(int(kib/(1<<20)*10)) / 10
	}
	if out, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel, _, _ = strings.Cut(strings.TrimSpace(string(out)), "-") // without the suffix that a distribution adds
	}
	if out, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(out), " ")
	}
	return m
}

// String is the machine in words, for a line above a table.
func (m Machine) String() string {
	return fmt.Sprintf("%s, %d cores, Linux %s, load average %s at the start", m.CPU, m.Cores, m.Kernel, m.Load)
}

// field is what follows "name:" in a file of /proc, empty if nothing does.
func field(file, name string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
