package redisstore_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// allKeys returns every key of the server.
func allKeys(t testing.TB, server *redistest.Server) []string {
	t.Helper()
	var keys []string
	for cursor := uint64(0); ; {
		e, err := server.Do("SCAN", strconv.FormatUint(cursor, 10), "COUNT", "1000").AsScanEntry()
		require.NoError(t, err)
		keys = append(keys, e.Elements...)
		if cursor = e.Cursor; cursor == 0 {
			return keys
		}
	}
}

// everything calls all operations of a store with sessions of these tokens, and leaves keys of each kind.
func everything(t testing.TB, s *redisstore.Store, user string, tokens *[]coatcheck.Token) {
	t.Helper()
	ctx, now := context.Background(), time.Now()
	begin := func(user string) *coatcheck.Record {
		token := coatcheck.NewToken(coatcheck.TagOf(user))
		*tokens = append(*tokens, token)
		rec := session(t, user)
		h := rec.Header
		h.ID = token.ID()
		require.NoError(t, rec.Write(token.Key(), h, []byte(user), nil, nil, nil))
		_, err := s.Create(ctx, rec, coatcheck.CreateOptions{Limit: 3, Until: now.Add(grave)}, now)
		require.NoError(t, err)
		warm(t, s, rec)
		return rec
	}
	for range 5 {
		rec := begin(user)
		require.NoError(t, swap(s, next(t, rec, rotated)))
	}
	require.NoError(t, end(s, begin(user)))
	begin("")
	require.NoError(t, endUser(s, user, coatcheck.Key{}))
	mark, err := s.Mark(ctx, user, now)
	require.NoError(t, err)
	rec := session(t, user)
	_, err = s.Create(ctx, rec, coatcheck.CreateOptions{Mark: mark}, now)
	require.NoError(t, err)
	require.NoError(t, s.List(ctx, user, now, func(*coatcheck.Record) bool { return true }))
}

// TOK-03: an attacker who reads everything that Redis stores and receives cannot open a session with it; and no key and no
// script text contains anything that a user chose.
func TestRedisHoldsNoTokens(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	heard := monitor(t, server)
	s := opened(t, redisstore.Options{URL: server.URL()})
	const user = "Ada Lovelace" // of whose names the first would be in a random key once in a thousand runs
	var tokens []coatcheck.Token
	var dump bytes.Buffer
	redistest.Eventually(t, time.Minute, "a key of each of four kinds", func() bool {
		everything(t, s, user, &tokens)
		kinds := map[string]bool{}
		for _, key := range allKeys(t, server) {
			assert.NotContains(t, key, "Lovelace")
			b, err := server.Do("DUMP", key).AsBytes()
			if rueidis.IsRedisNil(err) {
				continue // a script's answer, which expired meanwhile
			}
			require.NoError(t, err)
			kinds[key[strings.IndexByte(key, '}'):][:4]] = true
			dump.WriteString(key)
			dump.Write(b)
		}
		return len(kinds) == 4
	})
	said := heard()
	require.Contains(t, said, `"EVAL"`, "the monitor heard nothing")
	for _, token := range tokens {
		for name, secret := range spellings(token) {
			assert.NotContains(t, dump.String(), secret, "at rest: %s", name)
			assert.NotContains(t, said, secret, "on the way: %s", name)
		}
	}
	// A record's bytes and the argument that they are compared with hold the user; keys and script texts do not.
	for line := range strings.Lines(said) {
		args := strings.Split(line, `" "`)
		for i, arg := range args {
			if strings.HasPrefix(arg, "coatcheck:") || i == 1 && strings.HasSuffix(args[0], `"EVAL`) {
				assert.NotContains(t, arg, "Lovelace")
			}
		}
	}
}

// spellings returns the forms in which the secret half of a token might appear.
func spellings(token coatcheck.Token) map[string]string {
	text := token.AppendSecretText(nil)
	raw, _ := base64.RawURLEncoding.DecodeString(string(text))
	secret := raw[16:]
	return map[string]string{
		"the token":         string(text),
		"its text's tail":   string(text[22:]),
		"its bytes":         string(secret),
		"as MONITOR quotes": strings.Trim(quoted(secret), `"`),
		"hex":               hex.EncodeToString(secret),
		"base64":            base64.StdEncoding.EncodeToString(raw),
		"secret alone":      base64.RawURLEncoding.EncodeToString(secret),
	}
}

// quoted returns bytes as Redis prints them.
func quoted(b []byte) string {
	var q strings.Builder
	for _, c := range b {
		if c >= ' ' && c <= '~' && c != '"' && c != '\\' {
			q.WriteByte(c)
		} else {
			fmt.Fprintf(&q, `\x%02x`, c)
		}
	}
	return q.String()
}

// monitor records all commands that the server receives, until the returned function is called, which returns them.
func monitor(t testing.TB, server *redistest.Server) func() string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", server.Addr())
	require.NoError(t, err)
	_, err = conn.Write([]byte("MONITOR\r\n"))
	require.NoError(t, err)
	ok := make([]byte, 5)
	_, err = conn.Read(ok)
	require.NoError(t, err)
	heard := make(chan string, 1)
	go func() {
		var all strings.Builder
		for lines := bufio.NewReader(conn); ; {
			line, err := lines.ReadString('\n')
			all.WriteString(line)
			if err != nil || strings.Contains(line, "the end") {
				heard <- all.String()
				return
			}
		}
	}()
	return func() string {
		defer conn.Close() //nolint:errcheck // everything was read
		server.Must("ECHO", "the end")
		select {
		case all := <-heard:
			return all
		case <-time.After(time.Minute):
			require.Fail(t, "the monitor does not hear the end")
			return ""
		}
	}
}

// RED-06: every key has an expiry, and none outlives what it describes.
func TestEveryKeyExpires(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	for i := range 20 {
		everything(t, s, fmt.Sprintf("user %d", i), new([]coatcheck.Token))
	}
	keys := allKeys(t, server)
	require.Greater(t, len(keys), 100)
	for _, key := range keys {
		ttl, err := server.Do("PTTL", key).AsInt64()
		require.NoError(t, err)
		most := life
		switch {
		case strings.Contains(key, "}:r:"):
			most = 5 * time.Second
		case strings.Contains(key, "}:m:"):
			most = coatcheck.MarkLife
		}
		assert.NotEqual(t, int64(-1), ttl, "%s stays for good", key)
		assert.LessOrEqual(t, ttl, most.Milliseconds(), key)
	}
}

// The index expires with its latest member. A member whose session has expired is in no list, and stays until a login prunes.
func TestIndexFollows(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	index := func() (string, []string) {
		for _, key := range allKeys(t, server) {
			if strings.Contains(key, "}:u:") {
				members, err := server.Do("ZRANGE", key, "0", "-1").AsStrSlice()
				require.NoError(t, err)
				return key, members
			}
		}
		return "", nil
	}
	// goesWith checks when the index expires: Redis reports the time left as of some moment between before and after.
	goesWith := func(rec *coatcheck.Record) {
		t.Helper()
		key, _ := index()
		before := time.Now().UnixMilli()
		ttl, err := server.Do("PTTL", key).AsInt64()
		after := time.Now().UnixMilli()
		require.NoError(t, err)
		assert.GreaterOrEqual(t, ttl, rec.IdleExpiry-after-1)
		assert.LessOrEqual(t, ttl, rec.IdleExpiry-before+1)
	}
	const short = 6 * time.Second
	soon := func(h *coatcheck.Header) { h.IdleExpiry = time.Now().Add(short).UnixMilli() }
	a, b := add(t, s, "ada"), add(t, s, "ada")
	goesWith(b)
	require.NoError(t, swap(s, next(t, a, soon)))
	goesWith(b)
	b = next(t, b, soon)
	require.NoError(t, swap(s, b))
	goesWith(b)
	redistest.Eventually(t, time.Minute, "the index to go", func() bool { key, _ := index(); return key == "" })

	c := add(t, s, "ada")
	d := next(t, add(t, s, "ada"), soon)
	require.NoError(t, swap(s, d))
	redistest.Eventually(t, time.Minute, "the session to expire", func() bool { return load(s, d) != nil })
	_, members := index()
	assert.Len(t, members, 2, "nobody came by yet")
	var listed []coatcheck.Key
	require.NoError(t, s.List(context.Background(), "ada", time.Now(), func(rec *coatcheck.Record) bool {
		listed = append(listed, rec.Key)
		return true
	}))
	assert.Equal(t, []coatcheck.Key{c.Key}, listed)
	_, members = index()
	assert.Len(t, members, 2, "a list writes nothing; logins prune")
}

// A session that Redis evicted, or an operator deleted, is not counted anywhere.
func TestEvictedSessionsDoNotCount(t *testing.T) {
	ctx, server := context.Background(), redistest.Start(t)
	s := opened(t, redisstore.Options{URL: server.URL()})
	kept, evicted := add(t, s, "ada"), add(t, s, "ada")
	server.Must("DEL", s.RecordKey(evicted.Key))
	rec := session(t, "ada")
	ended, err := s.Create(ctx, rec, coatcheck.CreateOptions{Limit: 2, Until: time.Now().Add(grave)}, time.Now())
	require.NoError(t, err)
	assert.Zero(t, ended)
	require.NoError(t, load(s, kept))
	require.ErrorIs(t, load(s, evicted), coatcheck.ErrNotFound)
	require.ErrorIs(t, end(s, evicted), coatcheck.ErrNotFound)

	server.Must("DEL", s.RecordKey(kept.Key))
	listed := 0
	require.NoError(t, s.List(ctx, "ada", time.Now(), func(*coatcheck.Record) bool { listed++; return true }))
	assert.Equal(t, 1, listed)
	n, err := s.EndUser(ctx, "ada", coatcheck.Key{}, true, time.Now(), time.Now().Add(grave))
	require.NoError(t, err)
	assert.Equal(t, 1, n)
}

// SES-05: an expired session is dead although Redis has not removed it yet, and in the cache too.
func TestExpiredBeforeItIsCollected(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Must("DEBUG", "SET-ACTIVE-EXPIRE", "0")
	s := opened(t, redisstore.Options{URL: server.URL()})
	served := 0
	for lives := 500 * time.Millisecond; served == 0; lives *= 2 { // longer on a machine so slow that it had expired at once
		ends := time.UnixMilli(time.Now().Add(lives).UnixMilli())
		rec := session(t, "ada")
		h := rec.Header
		h.AbsoluteExpiry = ends.UnixMilli()
		require.NoError(t, rec.Write(rec.Key, h, rec.User(), nil, nil, nil))
		if err := begin(s, rec); err != nil {
			continue
		}
		for over := false; !over; time.Sleep(time.Millisecond) {
			now := time.Now()
			var got coatcheck.Record
			err := s.Load(context.Background(), rec.Key, rec.ID, now, &got)
			over = !now.Before(ends)
			switch {
			case over:
				require.ErrorIs(t, err, coatcheck.ErrNotFound)
				require.ErrorIs(t, end(s, rec), coatcheck.ErrNotFound)
			case time.Now().Before(ends.Add(-20 * time.Millisecond)): // Redis has a clock of its own
				require.NoError(t, err)
				served++
			}
		}
		require.Less(t, lives, time.Minute, "it is never served")
	}
}

// The scripts read a record's bytes where package coatcheck writes them.
func TestScriptsKnowTheCodec(t *testing.T) {
	rec := session(t, "ada")
	h := rec.Header
	h.Version, h.CreatedAt, h.IdleExpiry, h.AbsoluteExpiry = 0x0102030405060708, 0x010203040506, 1234567890123, 9876543210987
	require.NoError(t, rec.Write(rec.Key, h, []byte("ada"), nil, nil, nil))
	for codec, b := range map[byte][]byte{0xC1: bytes.Clone(rec.Bytes()), 0xC2: extended(t, rec).Bytes()} {
		assert.Equal(t, codec, b[0], "a new codec version: the scripts must learn it")
		assert.Equal(t, h.Version, binary.BigEndian.Uint64(b[1:]))
		assert.Equal(t, uint64(h.CreatedAt), binary.BigEndian.Uint64(b[57:]))
		assert.Equal(t, uint64(h.IdleExpiry), binary.BigEndian.Uint64(b[73:]))
		assert.Equal(t, uint64(h.AbsoluteExpiry), binary.BigEndian.Uint64(b[81:]))
		assert.Equal(t, "\x00\x03ada", string(b[89:94]))
	}
	require.NoError(t, rec.Write(rec.Key, h, nil, nil, nil, nil))
	assert.Len(t, rec.Bytes(), 94, "the shortest record")
	assert.Equal(t, "\xC0", string(coatcheck.Tombstone()))
	assert.Less(t, h.AbsoluteExpiry, int64(1)<<53)
	assert.Equal(t, int64(math.MaxInt64), coatcheck.PrevOpen, "no script reads PrevUntil: Lua's numbers do not hold it")
}
