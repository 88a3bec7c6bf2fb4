package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// What make passes on, and no run can have, is refused with what would do.
func TestSettingsThatNoRunCanHave(t *testing.T) {
	for want, args := range map[string][]string{
		"DURATION of make) is 1m0s, and must be 2m0s at least": {"-for", "1m", "run"},
		"RATE of make":     {"-rate", "0", "run"},
		"-visitors 32":     {"-visitors", "31", "run"},
		"memory and redis": {"-store", "disk", "run"},
	} {
		assert.ErrorContains(t, command(t.Context(), args), want)
	}
}
