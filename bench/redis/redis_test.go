package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The command measures each operation, and each asks of Redis, but for a retry, what docs/redis.md says of round trips: a login two,
// or one without a mark, a refresh and a logout one each.
func TestRun(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	require.NoError(t, run(&out, 1, 200, ""))
	rows := map[string]string{}
	for line := range strings.SplitSeq(out.String(), "\n") {
		name, rest, _ := strings.Cut(line, "  ")
		rows[name] = rest
	}
	for name, commands := range map[string][]string{
		set: {"set 1"}, get: {"get 1"},
		"login below the limit":     {"evalsha 1", "get 2", "set 1", "zadd 1"},
		"the same without a mark":   {"evalsha 1", "get 1", "set 1", "zadd 1"},
		"login at the limit of 100": {"evalsha 1", "get 2", "zadd 1", "zrem 1"},
		"refresh":                   {"evalsha 1", "get 1", "set 1"},
		"renewal":                   {"evalsha 1", "get 1", "set 1", "zadd 1"},
		"logout":                    {"evalsha 1", "get 1", "set 2", "zrem 1", "del 1"},
		"miss":                      {"get 1"},
		"miss of a made-up token":   {"get 1"},
	} {
		for _, command := range commands {
			assert.Contains(t, rows[name], command, name)
		}
	}
}

// What it does not understand is refused, before Redis is started.
func TestRefuse(t *testing.T) {
	for _, err := range []error{refuse(0, 1, nil), refuse(-1, 1, nil), refuse(1, 0, nil), refuse(1, 1, []string{"foo"})} {
		assert.Error(t, err)
	}
	assert.NoError(t, refuse(1, 1, nil))
}
