package coatcheck_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coatcheck/coatcheck"
)

// model is what a browser with one cookie must see, in plain maps: the session in the store, and the request under way.
type model struct {
	w   *world
	jar jar

	// The stored session, nil for none.
	stored *modelSession

	// The request.
	s        *coatcheck.Request
	at       time.Time
	live     bool // the request is bound to the stored session
	log      []func(map[string]string)
	login    string
	rotation bool
	cycle    bool // the rotation is one at once
	first    bool // the request is the first one with the token of a rotation, and no commit has noted that yet
	destroy  bool
	ending   bool // the stored session ends with the commit
	lost     bool
	stale    bool
	issued   bool
	cookie   coatcheck.CookieAction
}

type modelSession struct {
	user           string
	values         map[string]string
	seen           time.Time
	idle, absolute time.Time
	unused         bool // no request has shown the token of the last rotation, whose predecessor is admitted until one does
}

func (m *modelSession) lives(now time.Time) bool {
	return m != nil && now.Before(m.idle) && now.Before(m.absolute)
}

// view is what the handler reads.
func (m *model) view(base bool) map[string]string {
	v := map[string]string{}
	if base && m.live && (m.login == "" || m.stored.user == "" || m.stored.user == m.login) {
		maps.Copy(v, m.stored.values)
	}
	for _, do := range m.log {
		do(v)
	}
	return v
}

func (m *model) user() string {
	switch {
	case m.login != "":
		return m.login
	case m.live:
		return m.stored.user
	default:
		return ""
	}
}

func (m *model) dirty() bool {
	return len(m.log) > 0 || m.login != "" || m.rotation || m.destroy
}

func (m *model) open() {
	m.at = m.w.clock.Now()
	m.live = m.stored.lives(m.at)
	m.first = m.live && m.stored.unused
	m.stale = !m.live && m.jar != ""
	m.clearAsked()
	m.lost, m.issued, m.cookie = false, false, coatcheck.KeepCookie
	if m.jar == "" {
		m.s = m.w.open()
	} else {
		m.s = m.w.open(string(m.jar))
	}
}

func (m *model) clearAsked() {
	m.log, m.login, m.rotation, m.cycle, m.destroy, m.ending = nil, "", false, false, false, false
}

func (m *model) commit() {
	now := m.w.clock.Now()
	if !m.dirty() {
		return
	}
	switch {
	case m.login != "":
		values := m.view(m.stored.lives(now))
		m.began(m.login, values, now)
	case m.live && !m.stored.lives(now):
		m.drop()
	case m.live:
		m.stored.values = m.view(true)
		m.renew()
		m.noteFirst()
		if len(m.log) > 0 || m.rotation {
			m.cookie = coatcheck.SetCookie
		}
		m.issued = m.issued || m.rotation
	default:
		m.commitRest(now)
	}
	m.clearAsked()
}

func (m *model) commitRest(now time.Time) {
	if m.ending {
		m.stored = nil
	}
	if m.destroy {
		m.cookie = coatcheck.ClearCookie
	}
	switch values := m.view(false); {
	case len(values) == 0:
	case m.lost:
		m.drop()
	default:
		m.began("", values, now)
	}
}

func (m *model) began(user string, values map[string]string, now time.Time) {
	m.stored = &modelSession{user: user, values: values, seen: now, idle: now.Add(ttl), absolute: now.Add(maxLife)}
	m.live, m.first, m.stale, m.lost, m.issued, m.cookie = true, false, false, false, true, coatcheck.SetCookie
}

func (m *model) drop() {
	m.log, m.live, m.lost, m.cookie = nil, false, true, coatcheck.KeepCookie
}

func (m *model) renew() {
	if m.at.Sub(m.stored.seen) >= renew {
		m.stored.seen = m.at
		m.stored.idle = minTime(m.at.Add(ttl), m.stored.absolute)
	}
}

// noteFirst is what a commit does about the first use of a token.
func (m *model) noteFirst() {
	m.stored.unused = m.rotation && !m.cycle || !m.rotation && !m.first && m.stored.unused
	m.first = false
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (m *model) finish(t tester) {
	m.commit()
	if m.live && (m.first || m.at.Sub(m.stored.seen) >= renew) {
		if m.stored.lives(m.w.clock.Now()) {
			m.renew()
			m.noteFirst()
		} else {
			m.drop()
		}
	}
	a := m.w.finish(m.s)
	want := m.cookie
	if want == coatcheck.KeepCookie && m.stale {
		want = coatcheck.ClearCookie
	}
	require.Equal(t, want, a.cookie)
	m.check(t)
	m.jar.apply(a)
	m.s.Release()
	m.s = nil
}

// check compares what the session shows, and what is stored, with the model.
func (m *model) check(t tester) {
	live := 0
	if m.stored.lives(m.w.clock.Now()) {
		live = 1
	}
	require.Equal(t, live, m.w.data.live(m.w.clock.Now()), "sessions in the store")
	if m.s == nil {
		return
	}
	want := m.view(true)
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		lines = append(lines, name+"="+want[name])
		got, err := coatcheck.Get[json.RawMessage](m.s.Lend(), name)
		require.NoError(t, err)
		require.Equal(t, want[name], string(got))
	}
	require.Equal(t, lines, entries(m.s.Lend()))
	require.Equal(t, len(want), m.s.Len())
	require.Equal(t, m.user(), m.s.UserID())
	require.Equal(t, m.live, m.s.ID() != coatcheck.ID{})
}

// do records a change of the values that the session makes too.
func (m *model) do(f func(map[string]string)) { m.log = append(m.log, f) }

var (
	names = rapid.SampledFrom([]string{"a", "b", "c", "bb"})
	users = rapid.SampledFrom([]string{"alice", "bob"})
	steps = rapid.SampledFrom([]time.Duration{
		time.Millisecond, time.Second, grace, renew - time.Millisecond, renew, ttl - renew, ttl - time.Millisecond, ttl, maxLife / 2,
	})
)

// actions are the requests of one browser, operation by operation.
func (m *model) actions() map[string]func(*rapid.T) {
	in := func(f func(t *rapid.T)) func(*rapid.T) {
		return func(t *rapid.T) {
			if m.s == nil {
				m.open()
			}
			f(t)
		}
	}
	return map[string]func(*rapid.T){
		"": func(t *rapid.T) { m.check(t) },
		"step": func(t *rapid.T) {
			m.w.clock.Step(steps.Draw(t, "step"))
		},
		"step between requests": func(t *rapid.T) {
			if m.s != nil {
				m.finish(t)
			}
			m.w.clock.Step(steps.Draw(t, "step"))
		},
		"insert": in(func(t *rapid.T) { m.insert(t) }),
		"append": in(func(t *rapid.T) { m.append(t) }),
		"remove": in(func(t *rapid.T) { m.remove(t) }),
		"clear":  in(func(*rapid.T) { m.s.Clear(); m.do(func(v map[string]string) { clear(v) }) }),
		"authenticate": in(func(t *rapid.T) {
			m.login = users.Draw(t, "user")
			m.destroy = false
			require.NoError(t, m.s.Authenticate(m.login))
		}),
		"rotate": in(func(*rapid.T) {
			m.s.Rotate()
			m.rotation = m.rotation || m.live && !m.issued
		}),
		"cycle": in(func(*rapid.T) {
			m.s.CycleID()
			m.rotation, m.cycle = m.rotation || m.live, m.cycle || m.live
		}),
		"destroy": in(func(*rapid.T) {
			m.s.Destroy()
			m.ending = m.ending || m.live
			m.log, m.live, m.login, m.rotation, m.cycle = nil, false, "", false, false
			m.destroy, m.lost, m.cookie = true, false, coatcheck.KeepCookie
		}),
		"commit": in(func(t *rapid.T) {
			m.commit()
			require.NoError(t, m.s.Commit(context.Background()))
		}),
		"finish": in(func(t *rapid.T) { m.finish(t) }),
	}
}

func (m *model) insert(t *rapid.T) {
	name, value := names.Draw(t, "name"), rapid.IntRange(0, 9).Draw(t, "value")
	require.NoError(t, m.s.Insert(name, value))
	m.do(func(v map[string]string) { v[name] = fmt.Sprint(value) })
}

func (m *model) append(t *rapid.T) {
	name := names.Draw(t, "name")
	require.NoError(t, coatcheck.Update(m.s.Lend(), name, func(n int) int { return (n*10 + 1) % 1e9 }))
	m.do(func(v map[string]string) {
		n := 0
		_ = json.Unmarshal([]byte(v[name]), &n)
		v[name] = fmt.Sprint((n*10 + 1) % 1e9)
	})
}

func (m *model) remove(t *rapid.T) {
	name := names.Draw(t, "name")
	if _, there := m.view(true)[name]; there || m.login != "" {
		m.do(func(v map[string]string) { delete(v, name) })
	}
	m.s.Remove(name)
}

// A browser with one cookie, over any sequence of requests and operations, sees what a plain map says.
func TestSessionIsAPlainMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{w: newWorld(t)}
		t.Repeat(m.actions())
		if m.s != nil {
			m.finish(t)
		}
	})
}

// A request that changes nothing does not learn that its session expires meanwhile, unless it must note the first use of a token: then the
// session is empty at its end.
func TestFirstUseOfASessionThatExpiresMeanwhile(t *testing.T) {
	for _, refreshed := range []bool{false, true} {
		m := &model{w: newWorld(t)}
		m.open()
		m.login = "alice"
		require.NoError(t, m.s.Authenticate("alice"))
		m.finish(t)
		m.w.clock.Step(time.Millisecond)
		if refreshed {
			m.open()
			m.rotation = true
			m.s.Rotate()
			m.finish(t)
		}
		m.open()
		m.w.clock.Step(ttl - time.Millisecond)
		m.finish(t)
		require.Equal(t, refreshed, m.lost)
	}
}
