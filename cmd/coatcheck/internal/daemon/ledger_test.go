package daemon

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/server/login/ledgertest"
)

// The store does not know of logins, and the logins do not know of Redis; these tests have both.
func TestRedisLedger(t *testing.T) {
	redis := redistest.Start(t)
	store := redistest.Store(t, redisstore.Options{URL: redis.URL()})
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	ledgertest.Run(t, func(_ *testing.T, rule login.Rule) login.Ledger {
		return store.Ledger(rand.Text(), rule.Forget, rule.Delays)
	})
}

// passworded is a mode with one password for all.
type passworded struct{}

func (passworded) UserOf(a *login.Attempt) string { return a.UserID }

func (passworded) Traits() login.Traits { return login.Traits{Guesses: login.GuessesPassword} }

func (passworded) Check(_ context.Context, a *login.Attempt) (string, error) {
	if string(a.Password) != "right" {
		return "", login.ErrRefused
	}
	return a.UserID, nil
}

// logins are attempts that a Redis of their own counts, by a clock that the test sets.
type logins struct {
	*testing.T
	redis    *redistest.Server
	throttle *login.Throttle
	now      time.Time
}

func newLogins(t *testing.T) *logins {
	l := &logins{T: t, redis: redistest.Start(t), now: time.Now()}
	store := redistest.Store(t, redisstore.Options{URL: l.redis.URL()})
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	accounts, addresses := login.AccountRule(), login.AddressRule()
	var err error
	l.throttle, err = login.NewThrottle(passworded{}, store.Ledger("account", accounts.Forget, accounts.Delays),
		store.Ledger("address", addresses.Forget, addresses.Delays), func() time.Time { return l.now })
	require.NoError(t, err)
	return l
}

// try returns how long the attempt has to wait, 0 if the password was checked.
func (l *logins) try(password, from string) time.Duration {
	l.Helper()
	_, err := l.throttle.Check(l.Context(), &login.Attempt{UserID: "ann", Password: []byte(password), Client: netip.MustParseAddr(from)})
	var throttled *login.Throttled
	switch {
	case password == "right" && err == nil:
		return 0
	case !assert.ObjectsAreEqual(login.ErrRefused, err):
		require.ErrorAs(l, err, &throttled)
		return throttled.RetryAfter
	}
	return 0
}

// lock fails ten times from as many addresses.
func (l *logins) lock() {
	l.Helper()
	for failed := 0; failed < 10; {
		wait := l.try("wrong", fmt.Sprintf("203.0.113.%d", failed))
		if wait == 0 {
			failed++
		}
		l.now = l.now.Add(wait)
	}
}

// keys returns how long the keys of a kind have to live, without the one that the store writes to try a write.
func (l *logins) keys(kind string) map[string]time.Duration {
	l.Helper()
	all, err := l.redis.Do("KEYS", "*"+kind+"*").AsStrSlice()
	require.NoError(l, err)
	lives := map[string]time.Duration{}
	for _, key := range all {
		ms, err := strconv.Atoi(l.redis.Must("PTTL", key))
		require.NoError(l, err)
		if ms != -2 && !strings.HasSuffix(key, "}:r:probe") { // it has not expired meanwhile
			lives[key] = time.Duration(ms) * time.Millisecond
		}
	}
	return lives
}

func (l *logins) dropReceipts() {
	l.Helper()
	for key := range l.keys("}:r:") {
		l.redis.Must("DEL", key)
	}
}

// scripts returns how many scripts Redis has run by their digest.
func (l *logins) scripts() int {
	l.Helper()
	found := regexp.MustCompile(`cmdstat_evalsha:calls=(\d+)`).FindStringSubmatch(l.redis.Must("INFO", "commandstats"))
	require.NotNil(l, found)
	n, err := strconv.Atoi(found[1])
	require.NoError(l, err)
	return n
}

// An attempt that is refused because its account is locked writes nothing to Redis: nothing bounds how many of them one address may make.
func TestRefusedLoginsWriteNothingToRedis(t *testing.T) {
	l := newLogins(t)
	l.lock()
	for _, tt := range []struct {
		waits   string
		scripts int // an attempt
	}{
		{"the account and all names alike", 2},
		{"the account alone", 3},
	} {
		l.dropReceipts()
		before, scripts := l.redis.Must("DBSIZE"), l.scripts()
		l.redis.Must("ACL", "SETUSER", "default", "-@write")
		const attempts = 100 // fewer than the names that one address may try in vain
		for range attempts {
			require.Positive(t, l.try("right", "192.0.2.1"), tt.waits)
		}
		more := l.scripts() - scripts
		assert.GreaterOrEqual(t, more, attempts*tt.scripts, tt.waits)
		assert.Less(t, more, attempts*(tt.scripts+1), "%s; the store tries a write every two seconds beside", tt.waits)
		assert.InDelta(t, must(strconv.Atoi(before)), must(strconv.Atoi(l.redis.Must("DBSIZE"))), 1, "%s; the key of that write may go", tt.waits)
		l.redis.Must("ACL", "SETUSER", "default", "+@all")
		l.now = l.now.Add(login.Lock)
		require.Zero(t, l.try("wrong", "198.51.100.7"), "one try after the lock, which locks again")
	}
	l.now = l.now.Add(login.Lock)
	require.Zero(t, l.try("right", "192.0.2.1"))
}

func must(n int, err error) int {
	if err != nil {
		panic(err)
	}
	return n
}

// What an attempt leaves in Redis: three keys of failures, which expire when these are forgotten, and for five seconds three receipts. A
// success forgets the account's key, and leaves receipts of what it took back.
func TestKeysOfFailedLogins(t *testing.T) {
	l := newLogins(t)
	check := func(accountLives, othersLive time.Duration, counts, receipts int) {
		t.Helper()
		all := l.keys("}:l:")
		require.Len(t, all, counts)
		for key, life := range all {
			want := othersLive
			if strings.Contains(key, ":l:account:") {
				want = accountLives
			}
			assert.LessOrEqual(t, life, want, key)
			assert.Greater(t, life, want-time.Minute, key)
		}
		all = l.keys("}:r:")
		assert.LessOrEqual(t, len(all), receipts, "fewer if this machine took five seconds")
		for key, life := range all {
			assert.Positive(t, life, key)
			assert.LessOrEqual(t, life, 5*time.Second, key)
		}
	}
	l.dropReceipts()
	require.Zero(t, l.try("wrong", "192.0.2.1"))
	check(15*time.Minute, 90*time.Second, 3, 3)

	l.dropReceipts()
	require.Zero(t, l.try("right", "192.0.2.1"))
	assert.Len(t, l.keys("}:l:"), 2, "the account's are forgotten")
	assert.LessOrEqual(t, len(l.keys("}:r:")), 5)

	l.redis.Must("FLUSHALL")
	for failed := 0; failed < 10; { // of one account and one address
		wait := l.try("wrong", "192.0.2.1")
		if wait == 0 {
			failed++
		}
		l.now = l.now.Add(wait)
	}
	check(150*time.Minute, 15*time.Minute, 3, 30)
}
