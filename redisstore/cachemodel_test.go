package redisstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
)

// playedRedis simulates a server and the only connection to it: its records, the keys that it tracks, and the messages on
// their way back.
type playedRedis struct {
	cache   redisstore.Cache
	conn    rueidis.CacheStore
	keys    []coatcheck.Key
	stored  []*coatcheck.Record // nil: the session has ended
	tracked []bool
	asked   []bool // a read for the cache is under way
	stream  []pushed
	now     time.Time
}

// pushed is the answer to a read, or the invalidation of a key.
type pushed struct {
	key  int
	news bool
	msg  rueidis.RedisMessage
}

// Every record that the cache admits is the one that Redis holds, or its invalidation is on its way.
func TestCacheModel(t *testing.T) {
	var pool []*coatcheck.Record
	for range 6 {
		pool = append(pool, session(t, "ada"))
	}
	rapid.Check(t, func(t *rapid.T) {
		// The smallest cache holds two records of this size in one shard, the next one a few.
		size := rapid.SampledFrom([]int{800, 1700, 1 << 20}).Draw(t, "size")
		m := &playedRedis{
			cache: redisstore.NewCache(prefix, size), stored: append([]*coatcheck.Record(nil), pool...), now: time.Now(),
			tracked: make([]bool, len(pool)), asked: make([]bool, len(pool)),
		}
		for _, rec := range pool {
			m.keys = append(m.keys, rec.Key)
		}
		m.conn = m.cache.NewStore()
		t.Repeat(map[string]func(*rapid.T){
			"write": m.write, "read": m.read, "fail": m.fail, "deliver": m.deliver, "reconnect": m.reconnect, "wait": m.wait,
			"": m.check,
		})
		for len(m.stream) > 0 {
			m.deliver(t)
		}
		m.check(t)
	})
}

func (m *playedRedis) pick(t *rapid.T) int { return rapid.IntRange(0, len(m.keys)-1).Draw(t, "key") }

// write does another node's Swap or End.
func (m *playedRedis) write(t *rapid.T) {
	i := m.pick(t)
	if m.stored[i] == nil {
		t.Skip("a Key is never used twice")
	}
	if rapid.IntRange(0, 9).Draw(t, "kind") == 0 {
		m.stored[i] = nil
	} else {
		h, rec := m.stored[i].Header, &coatcheck.Record{}
		h.Version++
		require.NoError(t, rec.Write(m.keys[i], h, nil, nil, nil, nil))
		m.stored[i] = rec
	}
	if m.tracked[i] {
		m.tracked[i] = false
		m.stream = append(m.stream, pushed{key: i, news: true})
	}
}

// read begins a fill.
func (m *playedRedis) read(t *rapid.T) {
	i := m.pick(t)
	msg, entry := m.conn.Flight(redisKey(m.keys[i]), "GET", time.Minute, m.now)
	switch {
	case entry != nil:
		require.True(t, m.asked[i], "waits for a read that nobody makes")
		return
	case msg != (rueidis.RedisMessage{}):
		b, err := msg.AsBytes()
		require.NoError(t, err)
		m.isCurrent(t, i, b)
		return
	}
	require.False(t, m.asked[i], "two reads at a time")
	m.asked[i], m.tracked[i] = true, true
	answer := redisstore.NilMessage()
	if m.stored[i] != nil {
		answer = redisstore.Message(m.stored[i].Bytes())
	}
	m.stream = append(m.stream, pushed{key: i, msg: answer})
}

// fail ends a read with an error of its caller, such as an exceeded deadline; the answer that Redis sends later is
// discarded.
func (m *playedRedis) fail(t *rapid.T) {
	i := m.pick(t)
	m.conn.Cancel(redisKey(m.keys[i]), "GET", errors.New("failed"))
	for j, p := range m.stream {
		if p.key == i && !p.news {
			m.stream = append(m.stream[:j:j], m.stream[j+1:]...)
			break
		}
	}
	m.asked[i] = false
}

func (m *playedRedis) deliver(t *rapid.T) {
	if len(m.stream) == 0 {
		t.Skip("nothing is on its way")
	}
	p := m.stream[0]
	m.stream = m.stream[1:]
	key := redisKey(m.keys[p.key])
	if p.news {
		m.conn.Delete([]rueidis.RedisMessage{redisstore.Message([]byte(key))})
		return
	}
	m.conn.Update(key, "GET", p.msg)
	m.asked[p.key] = false
}

// reconnect loses the messages on their way. The new connection is made, and writes go over it, before rueidis has cleaned
// up the old one.
func (m *playedRedis) reconnect(t *rapid.T) {
	old := m.conn
	late := m.stream
	m.stream = nil
	clear(m.tracked)
	clear(m.asked)
	m.cache.Flush()
	m.conn = m.cache.NewStore()
	if len(late) > 0 && !late[0].news && rapid.Bool().Draw(t, "late") {
		old.Update(redisKey(m.keys[late[0].key]), "GET", late[0].msg)
	}
	m.check(t)
	old.Close(errors.New("lost"))
}

func (m *playedRedis) wait(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "s")) * time.Second)
}

func (m *playedRedis) check(t *rapid.T) {
	var rec coatcheck.Record
	for i, key := range m.keys {
		for _, id := range []coatcheck.ID{m.idOf(i), newID()} {
			if m.cache.Load(key, id, m.now, &rec) {
				require.Equal(t, id, rec.ID, "a yes to a stranger")
				m.isCurrent(t, i, rec.Bytes())
			}
		}
	}
	require.NoError(t, m.cache.Check())
}

func (m *playedRedis) idOf(i int) coatcheck.ID {
	if m.stored[i] == nil {
		return coatcheck.ID{}
	}
	return m.stored[i].ID
}

func (m *playedRedis) isCurrent(t *rapid.T, i int, b []byte) {
	for _, p := range m.stream {
		if p.key == i && p.news {
			return
		}
	}
	if assert.NotNil(t, m.stored[i], "the session has ended, and there are no news of it") {
		assert.Equal(t, m.stored[i].Bytes(), b, "the record has changed, and there are no news of it")
	}
}
