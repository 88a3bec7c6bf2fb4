//go:build real

package main

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// counts are the figures that Redis reports about itself, summed over the servers.
type counts struct {
	commands, in, out    float64
	micros               float64 // processor time
	memory               float64
	tracked, trackedKeys float64
	keys                 float64
}

func count(tb testing.TB, servers ...*redistest.Server) (c counts) {
	tb.Helper()
	for _, s := range servers {
		fields := info(s)
		get := func(name string) float64 {
			v, err := strconv.ParseFloat(fields[name], 64)
			require.NoError(tb, err, name)
			return v
		}
		c.commands += get("total_commands_processed")
		c.in += get("total_net_input_bytes")
		c.out += get("total_net_output_bytes")
		c.micros += 1e6 * (get("used_cpu_user") + get("used_cpu_sys"))
		c.memory += get("used_memory")
		c.tracked += get("tracking_total_items")
		c.trackedKeys += get("tracking_total_keys")
		keys, err := strconv.ParseFloat(s.Must("DBSIZE"), 64)
		require.NoError(tb, err)
		c.keys += keys
	}
	return c
}

func info(s *redistest.Server) map[string]string {
	fields := make(map[string]string)
	for line := range strings.Lines(s.Must("INFO", "everything")) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}
