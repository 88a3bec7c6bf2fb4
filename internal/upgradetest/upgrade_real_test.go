//go:build real

package upgradetest_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/shardstore"
)

// Both releases serve one Redis at the same time, as during a rolling upgrade: whatever one of them begins, changes or ends is
// begun, changed or ended for the other.
func TestBesideEachOther(t *testing.T) {
	server := redistest.Start(t)
	m := newModel(t)
	m.nodes = []*node{before.start(t, "--store="+server.URL()), current.start(t, "--store="+server.URL())}
	m.steps(300)
	m.check(true)
}

// Both releases serve one --data-dir, one after the other and back again, as an upgrade and a roll-back do.
func TestOneAfterTheOther(t *testing.T) {
	for name, leave := range map[string]func(*testing.T, *node){
		"stopped": func(t *testing.T, n *node) { n.stop(t) },
		"killed":  func(_ *testing.T, n *node) { n.kill() },
	} {
		t.Run(name, func(t *testing.T) {
			dir, m := t.TempDir(), newModel(t)
			for _, r := range []release{before, current, before, current, current, before} {
				m.nodes = []*node{r.start(t, "--data-dir="+dir)}
				m.check(true)
				m.steps(60)
				leave(t, m.nodes[0])
			}
		})
	}
}

var (
	aKey      = "\x02\x00\x0A" + "public key" // the extension that a later release would write
	elsewhere = netip.MustParseAddr("198.51.100.7")
)

// extended is the encoding of rec, in version 2 of the codec, with aKey.
func extended(t *testing.T, rec *coatcheck.Record) []byte {
	t.Helper()
	b := bytes.Clone(rec.Bytes())
	at := 89 + 2 + len(rec.User()) + 1 + len(rec.IP().AsSlice()) + 2 + len(rec.UserAgent())
	b[0] = 0xC2
	return append(append(append(b[:at:at], 0, byte(len(aKey))), aKey...), rec.Bytes()[at:]...)
}

// stored is a session's record in Redis, for a test to read and to change.
type stored struct {
	t      *testing.T
	server *redistest.Server
	key    coatcheck.Key
}

func in(t *testing.T, server *redistest.Server, token string) stored {
	t.Helper()
	tok, ok := coatcheck.ParseToken([]byte(token))
	require.True(t, ok)
	return stored{t, server, tok.Key()}
}

func (s stored) name() string {
	tag := s.key.Tag()
	return "coatcheck:{" + hex.EncodeToString(tag[:]) + "}:s:" + s.key.String()
}

func (s stored) read() *coatcheck.Record {
	s.t.Helper()
	rec := new(coatcheck.Record)
	require.NoError(s.t, rec.Read(s.key, []byte(s.server.Must("GET", s.name()))))
	return rec
}

func (s stored) write(b []byte) { s.server.Must("SET", s.name(), string(b), "KEEPTTL") }

// This release notes where a session was last seen. The release before reads, keeps and rotates such a record.
func TestNoteOfLastIP(t *testing.T) {
	server := redistest.Start(t)
	old, now := before.start(t, "--store="+server.URL()), current.start(t, "--store="+server.URL(), "--trusted-proxies=127.0.0.1/32")
	token := now.login(t, "ada", "").token
	s := in(t, server, token)
	assert.Equal(t, "127.0.0.1", s.read().LastIP().String())
	now.client = elsewhere
	for _, n := range []*node{now, old, now, old} {
		a := n.refresh(t, token)
		require.NotEmpty(t, a.token)
		token = a.token
		for _, reader := range []*node{old, now} {
			assert.Equal(t, "ada", reader.me(t, token).view.UserID, reader.name)
		}
		assert.Equal(t, elsewhere, s.read().LastIP(), "after a refresh by %s", n.name)
		assert.Equal(t, "127.0.0.1", s.read().IP().String())
		for _, lister := range []*node{old, now} {
			assert.Len(t, lister.sessions(t, "ada"), 1, lister.name)
		}
	}
	old.logout(t, token)
	now.refuses(t, token)
}

// A session with an extension is this release's. The one before keeps what it cannot read, and ends it with all of the user's.
func TestExtendedOnRedis(t *testing.T) {
	server := redistest.Start(t)
	old, now := before.start(t, "--store="+server.URL()), current.start(t, "--store="+server.URL())
	token := old.login(t, "ada", "").token
	s := in(t, server, token)
	s.write(extended(t, s.read()))

	token = now.refresh(t, token).token
	require.NotEmpty(t, token)
	was := s.read().Bytes()
	assert.Equal(t, byte(0xC2), was[0])
	assert.Contains(t, string(was), aKey)
	for range 2 {
		require.Eventually(t, func() bool { return old.me(t, token).status == http.StatusServiceUnavailable }, patience, 5*time.Millisecond)
		a := old.call(t, http.MethodPost, old.url+"/auth/logout", token, "")
		assert.Equal(t, http.StatusServiceUnavailable, a.status)
		assert.Contains(t, a.body, "record_newer")
		assert.Equal(t, "ada", now.me(t, token).view.UserID)
	}
	assert.Contains(t, string(s.read().Bytes()), aKey)
	assert.Len(t, now.sessions(t, "ada"), 1)
	old.revoke(t, "ada", "")
	assert.Equal(t, "\xC0", server.Must("GET", s.name()), "a tombstone")
	now.refuses(t, token)

	token = old.login(t, "ada", "").token
	s = in(t, server, token)
	s.write(extended(t, s.read()))
	now.logout(t, token)
	old.refuses(t, token)
}

// The same on disk: the roll-back finds a journal with an extended record, does not serve it, and does not lose it.
func TestExtendedOnDisk(t *testing.T) {
	dir := t.TempDir()
	n := before.start(t, "--data-dir="+dir)
	kept, revoked := n.login(t, "ada", "").token, n.login(t, "bob", "").token
	n.stop(t)
	for _, token := range []string{kept, revoked} {
		extendOnDisk(t, dir, token)
	}

	n = current.start(t, "--data-dir="+dir)
	kept = n.refresh(t, kept).token
	assert.Equal(t, "ada", n.me(t, kept).view.UserID)
	assert.Len(t, n.sessions(t, "bob"), 1)
	n.kill()

	n = before.start(t, "--data-dir="+dir)
	for _, token := range []string{kept, revoked} {
		a := n.me(t, token)
		assert.Equal(t, http.StatusServiceUnavailable, a.status)
		assert.Contains(t, a.body, "record_newer")
	}
	n.revoke(t, "bob", "")
	n.kill()

	n = current.start(t, "--data-dir="+dir)
	assert.Equal(t, "ada", n.me(t, kept).view.UserID)
	n.refuses(t, revoked)
	n.logout(t, kept)
	n.kill()

	n = before.start(t, "--data-dir="+dir)
	n.refuses(t, kept)
}

// extendOnDisk does to a stopped server's session what a later release would.
func extendOnDisk(t *testing.T, dir, token string) {
	t.Helper()
	tok, ok := coatcheck.ParseToken([]byte(token))
	require.True(t, ok)
	s, err := shardstore.New(shardstore.Options{Dir: dir})
	require.NoError(t, err)
	ctx, now := context.Background(), time.Now()
	var rec, next, cur coatcheck.Record
	require.NoError(t, s.Load(ctx, tok.Key(), tok.ID(), now, &rec))
	h := rec.Header
	h.Version++
	require.NoError(t, next.Rewrite(&rec, h, nil))
	require.NoError(t, next.Read(tok.Key(), extended(t, &next)))
	require.NoError(t, s.Swap(ctx, &next, rec.Version, now, &cur))
	require.NoError(t, s.Close())
}
