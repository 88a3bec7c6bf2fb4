package coatcheck_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coatcheck/coatcheck"
)

// side is one of the requests that work on a session at the same time.
type side struct {
	s     *coatcheck.Request
	log   []func(map[string]string)
	view  map[string]string
	cycle bool
	ends  bool
	asks  bool // whether it asks for any change
}

func (d *side) do(f func(map[string]string)) {
	d.log, d.asks = append(d.log, f), true
	f(d.view)
}

// act makes one random change, to the session and to the model.
func (d *side) act(t *rapid.T) {
	name, n := names.Draw(t, "name"), rapid.IntRange(0, 9).Draw(t, "n")
	switch rapid.SampledFrom([]string{"insert", "update", "remove", "clear", "rotate", "cycle", "destroy"}).Draw(t, "act") {
	case "insert":
		require.NoError(t, d.s.Insert(name, n))
		d.do(func(v map[string]string) { v[name] = fmt.Sprint(n) })
	case "update":
		next := func(old int) int { return (old*10 + n) % 1e9 }
		require.NoError(t, coatcheck.Update(d.s.Lend(), name, next))
		d.do(func(v map[string]string) {
			old := 0
			_ = json.Unmarshal([]byte(v[name]), &old)
			v[name] = fmt.Sprint(next(old))
		})
	case "remove":
		if _, there := d.view[name]; there {
			d.do(func(v map[string]string) { delete(v, name) })
		}
		d.s.Remove(name)
	case "clear":
		d.s.Clear()
		d.do(func(v map[string]string) { clear(v) })
	case "rotate":
		d.s.Rotate()
		d.asks = true
	case "cycle":
		d.s.CycleID()
		d.cycle, d.asks = true, true
	case "destroy":
		if rapid.IntRange(0, 3).Draw(t, "rarely") == 0 {
			d.s.Destroy()
			d.log, d.view, d.cycle, d.ends = nil, map[string]string{}, false, true
			d.asks = true
		}
	}
}

// When requests work on one session at the same time, each applies its changes to the values that the previous commit left.
// A CycleID or the end of the session refuses the requests that commit after it.
func TestParallelRequestsMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		base := map[string]string{}
		cookie := w.do("", func(s *coatcheck.Session) {
			require.NoError(t, s.Authenticate("u"))
			for _, name := range []string{"a", "b"} {
				require.NoError(t, s.Insert(name, 1))
				base[name] = "1"
			}
		}).token
		var sides []*side
		for range rapid.IntRange(2, 4).Draw(t, "requests") {
			sides = append(sides, &side{s: w.open(cookie), view: maps.Clone(base)})
		}
		for range rapid.IntRange(1, 15).Draw(t, "operations") {
			d := rapid.SampledFrom(sides).Draw(t, "who")
			if !d.ends {
				d.act(t)
			}
			for _, other := range sides {
				require.Equal(t, sorted(other.view), entries(other.s.Lend()), "nobody sees the other before its commit")
			}
		}
		commitAll(t, w, cookie, sides, base)
	})
}

func commitAll(t *rapid.T, w *world, cookie string, sides []*side, stored map[string]string) {
	j, open := jar(cookie), true
	for _, d := range rapid.Permutation(sides).Draw(t, "order of commits") {
		a := w.finish(d.s)
		j.apply(a)
		switch {
		case d.ends:
			open, stored = false, nil
		case !d.asks:
			require.Equal(t, coatcheck.KeepCookie, a.cookie)
		case !open:
			require.Equal(t, coatcheck.KeepCookie, a.cookie, "shut out")
			require.Empty(t, entries(d.s.Lend()))
			require.Equal(t, 1, d.s.Report().Dropped)
		case len(d.log) == 0 && !d.cycle: // a Rotate, which may lose against another one
		default:
			for _, f := range d.log {
				f(stored)
			}
			require.Equal(t, sorted(stored), entries(d.s.Lend()), "after the commit it sees the merged values")
			open = !d.cycle
		}
	}
	if stored == nil {
		require.Zero(t, w.data.live(w.clock.Now()))
		return
	}
	require.Equal(t, sorted(stored), entries(w.open(string(j)).Lend()), "the jar, in the order of the commits, opens the merged session")
	require.Equal(t, "u", w.user(string(j)))
}

func sorted(values map[string]string) []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		lines = append(lines, name+"="+values[name])
	}
	return lines
}
