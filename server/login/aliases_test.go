package login_test

import (
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/login"
)

// AUT-07: aliases share one bucket.
func TestThrottleAliases(t *testing.T) {
	d := newThrottled(t, login.GuessesPassword)
	aliases := []string{"Alice", "alice", "ALICE ", "Ａｌｉｃｅ", " aLiCe", "ᴬlice\u00a0"}
	checked := 0
	for i := range 600 {
		if d.wrong(aliases[i%len(aliases)], fmt.Sprintf("2001:db8:0:%x::1", i)) == 0 {
			checked++
		}
	}
	assert.Equal(t, 5, checked)
	for _, alias := range aliases {
		assert.Equal(t, login.AccountBucket("alice"), login.AccountBucket(alias), alias)
	}
	assert.NotEqual(t, login.AccountBucket("alice"), login.AccountBucket("bob"))
}

// aliased is a mode that knows names which do not look alike.
type aliased struct{ guessed }

func (*aliased) UserOf(a *login.Attempt) string {
	if a.UserID == "alice@example.com" {
		return "17"
	}
	return a.UserID
}

func TestThrottleKnownNames(t *testing.T) {
	m := &aliased{guessed{what: login.GuessesPassword}}
	throttle := around(t, m, login.NewMemoryLedger(login.AccountRule()), login.NewMemoryLedger(login.AddressRule()), nil)
	for i, name := range []string{"alice@example.com", "17", "alice@example.com", "17", "alice@example.com"} {
		a := &login.Attempt{UserID: name, Client: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}
		_, err := throttle.Check(t.Context(), a)
		require.ErrorIs(t, err, login.ErrRefused)
	}
	for _, name := range []string{"alice@example.com", "17"} {
		_, err := throttle.Check(t.Context(), &login.Attempt{UserID: name, Client: netip.MustParseAddr(away)})
		var throttled *login.Throttled
		require.ErrorAs(t, err, &throttled, name)
	}
}

// lookalikes are names that some back ends treat as one name: those that ignore accents, characters of no width, or both.
var lookalikes = []string{
	"alice", "Àlice", "alicé", "a\u0301lice", "al\u200bice", "\u200dalice", "ali\u00adce", "alice\ufeff", "alice \u2060", "a\u034flice",
	"al\u180eice", "alice\ufe0f", "alice\U000e0101",
	"ａｌｉｃｅ\u0308", "ǎļĭçę", "al\u2066ice\u2069", "alice\u3164", "alice\U000e0041", "ALİCE", "al\u0489ice",
}

// AUT-07: names that a back end may treat as one name share their guesses, even if each guess comes from an address of its own.
func TestThrottleLookalikes(t *testing.T) {
	d := newThrottled(t, login.GuessesPassword)
	checked := 0
	for i := range 600 {
		if d.wrong(lookalikes[i%len(lookalikes)], fmt.Sprintf("2001:db8:0:%x::1", i)) == 0 {
			checked++
		}
	}
	assert.Equal(t, 5, checked)
	assert.Zero(t, d.wrong("alike", home))
	assert.Zero(t, d.wrong("аlice", home), "letters that only look alike are not folded")
}

// The owner of an account gets no more guesses at another account, whose name looks alike, by logging in.
func TestThrottleLookalikesPayForThemselves(t *testing.T) {
	for _, names := range [][2]string{{"josé", "jose"}, {"jose", "josé"}, {"jo\u200bse", "jose"}} {
		d := newThrottled(t, login.GuessesPassword)
		checked := 0
		for i := range 100 {
			if d.wrong(names[0], fmt.Sprintf("2001:db8:0:%x::1", i)) == 0 {
				checked++
			}
			_ = d.try(names[1], "right", away)
		}
		assert.Equal(t, 5, checked, names)
	}
}

// The throttle computes nothing from the name of an attempt whose address is locked, and otherwise normalises the name once.
func TestThrottleCostOfNames(t *testing.T) {
	long := strings.Repeat("\ufdfa", 85) // 255 bytes, eleven times as many when normalised
	// allocated returns the least of several runs: what other goroutines allocate meanwhile is counted as well.
	allocated := func(run func()) uint64 {
		least := uint64(math.MaxUint64)
		for range 20 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			run()
			runtime.ReadMemStats(&after)
			least = min(least, after.TotalAlloc-before.TotalAlloc)
		}
		return least
	}
	d := newThrottled(t, login.GuessesPassword)
	cost := func(from string, pause time.Duration) uint64 {
		address := netip.MustParseAddr(from)
		return allocated(func() {
			_, err := d.throttle.Check(t.Context(), &login.Attempt{UserID: long, Client: address})
			require.Error(t, err)
			d.now = d.now.Add(pause)
		})
	}
	normalising := allocated(func() { _ = login.Skeleton(login.Canonical(long)) })
	assert.Less(t, cost(away, time.Hour), normalising*5/4+4096, "once")
	require.Equal(t, int64(20), int64(d.mode.checked.Load()), "none had to wait")
	for i := 0; ; i++ {
		wait := d.wrong(fmt.Sprint("user", i), home)
		if wait >= login.Lock {
			break
		}
		d.now = d.now.Add(wait)
		require.Less(t, i, 100)
	}
	assert.Less(t, cost(home, 0), uint64(2048))

	d = newThrottled(t, login.GuessesPassword)
	_, err := d.throttle.Check(t.Context(), &login.Attempt{UserID: long + "xx", Password: []byte("right")})
	assert.Equal(t, login.ErrRefused, err, "no client may send a name of 257 bytes")
	assert.Zero(t, d.mode.checked.Load())
}

func TestAliasesAreBounded(t *testing.T) {
	assert.LessOrEqual(t, login.LearnedAliases(20_000), 8192)
}
