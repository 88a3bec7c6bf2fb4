package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The steps of a carry-over, as Redis sees them.
var (
	reads   = regexp.MustCompile(`^get carried:`)
	settle  = regexp.MustCompile(`^set carried:\S+ done `)
	deletes = regexp.MustCompile(`^del scs:session:`)
)

// hook does something before the next command of a kind, once. An error takes the command's place.
type hook struct {
	mu   sync.Mutex
	kind *regexp.Regexp // guarded by mu
	do   func() error   // guarded by mu
}

func (h *hook) before(kind *regexp.Regexp, do func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kind, h.do = kind, do
}

func (*hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		do := func() error { return nil }
		h.mu.Lock()
		if h.do != nil && h.kind.MatchString(fmt.Sprintln(cmd.Args()...)) {
			do, h.do = h.do, nil
		}
		h.mu.Unlock()
		if err := do(); err != nil {
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

// keys returns those of a pattern.
func (s *site) keys(pattern string) []string {
	keys, err := s.redis.Keys(context.Background(), pattern).Result()
	assert.NoError(s, err)
	return keys
}

// drop deletes the keys of a pattern, of which there are some.
func (s *site) drop(pattern string) {
	keys := s.keys(pattern)
	assert.NotEmpty(s, keys, pattern)
	assert.NoError(s, s.redis.Del(context.Background(), keys...).Err())
}

// answers asks for a page, or to log out, and expects a status.
func (s *site) answers(status int, client *http.Client, method, path string) {
	s.Helper()
	got, _ := s.ask(client, method, s.now+path)
	assert.Equal(s, status, got)
}

// isRefused asks for a page, and is told to try again, without a cookie of a session.
func (s *site) isRefused(client *http.Client) {
	s.Helper()
	s.answers(503, client, "GET", "/")
	at, err := url.Parse(s.now)
	require.NoError(s, err)
	require.Len(s, client.Jar.Cookies(at), 1)
	assert.Equal(s, "session", client.Jar.Cookies(at)[0].Name)
}

// A logout beside a request whose carry-over fails is refused while the old session may live on, and then ends it.
func TestLogoutBesideAFailure(t *testing.T) {
	t.Parallel()
	s := open(t)
	_, copied := s.browser("ann")
	s.hook.before(settle, func() error {
		s.answers(503, copied(), "POST", "/logout")
		return assert.AnError
	})
	s.isRefused(copied())

	leaving := copied()
	s.hook.before(reads, func() error { s.drop("carried:*"); return nil }) // the claim expires meanwhile
	s.answers(503, leaving, "POST", "/logout")
	s.logOut(leaving)
	s.isDead(copied())
}

// A request whose claim expired does not carry the old session over if another request has claimed it since, or has carried it over.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	s := open(t)
	_, copied := s.browser("bob")
	s.hook.before(settle, func() error {
		for _, claim := range s.keys("carried:*") {
			assert.NoError(s, s.redis.Set(context.Background(), claim, "another's", pending).Err())
		}
		return nil
	})
	s.isRefused(copied())

	browser, copied := s.browser("bob")
	s.hook.before(settle, func() error {
		s.drop("carried:*")
		assert.Equal(s, seen{"bob", 8}, s.shows(browser, s.now))
		return nil
	})
	slow := copied()
	s.isRefused(slow)
	s.logOut(browser)
	s.isDead(slow)
}

// An old session that is ended while it is carried over stays ended: the new session does not begin.
func TestEndedMeanwhile(t *testing.T) {
	t.Parallel()
	s := open(t)
	browser, copied := s.browser("eve")
	s.hook.before(settle, func() error { s.drop("scs:session:*"); return nil })
	s.isRefused(browser)
	s.isDead(browser)
	s.isDead(copied())

	browser, copied = s.browser("eve") // and so does one that the old application ends
	token := strings.TrimPrefix(s.keys("scs:session:*")[0], "scs:session:")
	s.hook.before(settle, func() error {
		assert.Error(s, forgetful{goredisstore.New(s.redis), s.redis}.DeleteCtx(context.Background(), token))
		return nil
	})
	s.isRefused(browser)
	s.isDead(browser)
	s.isDead(copied())
}

// The logout of the old application, which is the new one's, is as final: of a session that was not carried over yet, and of one that was.
func TestLogoutAtTheOldApplication(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, visit := range []bool{false, true} {
		browser, copied := s.browser("pat")
		if visit {
			assert.Equal(t, seen{"pat", 8}, s.shows(browser, s.now))
			status, _ := s.ask(copied(), "POST", s.old+"/logout")
			require.Equal(t, 503, status, "while the answer with the new cookie may be on its way")
		}
		status, _ := s.ask(browser, "POST", s.old+"/logout")
		require.Equal(t, 204, status)
		assert.Empty(t, s.shows(browser, s.now))
		assert.Empty(t, s.shows(copied(), s.old))
		s.isDead(copied())
	}
}

// A request of the old application that renames the session, as at a change of privilege, does not bring it back when it was carried over
// and logged out, not even right before.
func TestRenamedAtTheOldApplication(t *testing.T) {
	t.Parallel()
	s := open(t)
	browser, copied := s.browser("kim")
	s.oldHook.before(deletes, func() error {
		assert.Equal(t, seen{"kim", 8}, s.shows(browser, s.now))
		s.logOut(browser)
		return nil
	})
	renamed := copied()
	status, _ := s.ask(renamed, "POST", s.old+"/rename")
	require.Equal(t, 200, status)
	assert.Empty(t, s.shows(renamed, s.old))
	s.isDead(renamed)
	s.isDead(copied())

	_, copied = s.browser("kim") // and a rename is what it was where nobody has carried the session over
	renamed = copied()
	status, _ = s.ask(renamed, "POST", s.old+"/rename")
	require.Equal(t, 200, status)
	assert.Equal(t, seen{"kim", 8}, s.shows(renamed, s.now))
	assert.Empty(t, s.shows(copied(), s.now))
}

// A claim outlives the old session, and a session that is unknown or has no user gets none.
func TestClaims(t *testing.T) {
	t.Parallel()
	s := open(t)
	browser, _ := s.browser("joe")
	s.drop("scs:session:*")
	s.answers(200, browser, "GET", "/")
	nobody, _ := s.browser("") // a session without a user
	s.answers(200, nobody, "GET", "/")
	require.Empty(t, s.keys("carried:*"))

	browser, _ = s.browser("joe")
	s.answers(200, browser, "GET", "/")
	claims := s.keys("carried:*")
	require.Len(t, claims, 1)
	assert.Empty(t, s.keys("scs:session:"+claims[0][len("carried:"):]), "the old session is still there")
	left, err := s.redis.TTL(t.Context(), claims[0]).Result()
	require.NoError(t, err)
	assert.Greater(t, left, 29*24*time.Hour)
}
