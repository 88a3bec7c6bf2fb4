//go:build real

package upgradetest_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// perUser is the limit that the servers are started with.
const perUser = 4

// browser is a session as its client knows it.
type browser struct {
	user, token, id string
	born            int // the how manieth login it came from
}

// model is what the servers ought to know. It sends random operations to random nodes, one after the other.
type model struct {
	t     *testing.T
	nodes []*node
	rand  *rand.Rand
	live  map[*browser]bool // false: ended
	born  int
	last  int64 // Unix milliseconds of the last login
}

func newModel(t *testing.T) *model {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return &model{t: t, rand: rand.New(rand.NewPCG(seed, 0)), live: map[*browser]bool{}} //nolint:gosec // it must repeat
}

func (m *model) node() *node { return m.nodes[m.rand.IntN(len(m.nodes))] }

// pick returns a session that lives, nil if there is none.
func (m *model) pick() *browser {
	alive := m.alive("")
	if len(alive) == 0 {
		return nil
	}
	return alive[m.rand.IntN(len(alive))]
}

// alive returns the live sessions of a user, "" for all, the oldest first.
func (m *model) alive(user string) (alive []*browser) {
	for b, ok := range m.live {
		if ok && (user == "" || b.user == user) {
			alive = append(alive, b)
		}
	}
	slices.SortFunc(alive, func(a, b *browser) int { return a.born - b.born })
	return alive
}

func (m *model) steps(n int) {
	m.t.Helper()
	for range n {
		b := m.pick()
		switch what := m.rand.IntN(20); {
		case b == nil || what < 8:
			m.login(fmt.Sprintf("user %d", m.rand.IntN(5)))
		case what < 13:
			m.refresh(b)
		case what < 16:
			m.node().logout(m.t, b.token)
			m.live[b] = false
		case what < 18:
			m.node().revoke(m.t, b.user, b.id)
			m.live[b] = false
		case what < 19:
			m.node().revoke(m.t, b.user, "")
			for _, other := range m.alive(b.user) {
				m.live[other] = false
			}
		default:
			a := m.node().me(m.t, b.token)
			require.Equal(m.t, b.id, a.view.SessionID, a.body)
		}
		m.check(false)
	}
}

// login begins a session, of a client that has none or in the place of one that it has.
func (m *model) login(user string) {
	m.t.Helper()
	for m.last == time.Now().UnixMilli() { // of two that began at the same time, the limit ends the one with the smaller key
		continue
	}
	var was *browser
	token := ""
	if was = m.pick(); was != nil && m.rand.IntN(3) == 0 {
		token = was.token
		m.live[was] = false
	}
	a := m.node().login(m.t, user, token)
	m.last = time.Now().UnixMilli()
	m.born++
	m.live[&browser{user: user, token: a.token, id: a.view.SessionID, born: m.born}] = true
	if alive := m.alive(user); len(alive) > perUser {
		m.live[alive[0]] = false
	}
}

// refresh rotates, and reads with the old token, whose grace lasts until the new one has been presented, and the new one.
func (m *model) refresh(b *browser) {
	m.t.Helper()
	old := b.token
	a := m.node().refresh(m.t, b.token)
	require.NotEmpty(m.t, a.token, a.body)
	require.NotEqual(m.t, b.id, a.view.SessionID)
	b.token, b.id = a.token, a.view.SessionID
	require.Equal(m.t, b.user, m.node().me(m.t, old).view.UserID, "the old token in its grace")
	require.Equal(m.t, b.id, m.node().me(m.t, b.token).view.SessionID)
}

// check compares each node's lists with the model; whole also presents every token to every node.
func (m *model) check(whole bool) {
	m.t.Helper()
	users := map[string]bool{}
	for b := range m.live {
		users[b.user] = true
	}
	for _, n := range m.nodes {
		for user := range users {
			want := map[string]bool{}
			for _, b := range m.alive(user) {
				want[b.id] = true
			}
			require.Equal(m.t, slices.Sorted(maps.Keys(want)), n.sessions(m.t, user), "%s, %s", n.name, user)
		}
	}
	if !whole {
		return
	}
	for _, n := range m.nodes {
		for b, alive := range m.live {
			if alive {
				assert.Equal(m.t, b.user, n.me(m.t, b.token).view.UserID, n.name)
				continue
			}
			n.refuses(m.t, b.token)
		}
	}
}
