package login_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/argon2"

	"github.com/coatcheck/coatcheck/server/login"
)

// people is a users file of a test with the mode that reads it.
type people struct {
	testing.TB
	file  string
	users *login.Users
	count login.Computations
	log   bytes.Buffer
}

func newPeople(t testing.TB, lines ...string) *people {
	t.Helper()
	p := &people{TB: t, file: writeFile(t, strings.Join(lines, "\n")+"\n")}
	var err error
	p.users, err = login.NewCheapUsers(p.file, login.UsersOptions{Logger: slog.New(slog.NewTextHandler(&p.log, nil))}, &p.count)
	require.NoError(t, err)
	return p
}

func (p *people) login(user, password string) (string, error) {
	return p.users.Check(context.Background(), &login.Attempt{UserID: user, Password: []byte(password)})
}

func (p *people) admitted(user, password string) bool {
	p.Helper()
	name, err := p.login(user, password)
	if err != nil {
		require.ErrorIs(p, err, login.ErrRefused)
		require.Empty(p, name)
	}
	return err == nil
}

func (p *people) read() string {
	p.Helper()
	data, err := os.ReadFile(p.file)
	require.NoError(p, err)
	return string(data)
}

func (p *people) write(lines ...string) {
	p.Helper()
	require.NoError(p, os.WriteFile(p.file, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
}

func (p *people) reload() []string {
	p.Helper()
	changed, err := p.users.Reload()
	require.NoError(p, err)
	return changed
}

// AUT-07: however a name is typed, it is one user, and the session gets the name as it stands in the file.
func TestUsersNames(t *testing.T) {
	p := newPeople(t, "Alice:"+login.CheapHash("pass"))
	for _, typed := range []string{"Alice", "alice", "ALICE ", " alice", "Ａｌｉｃｅ", "ᴬlice\u00a0"} {
		name, err := p.login(typed, "pass")
		require.NoError(t, err, typed)
		assert.Equal(t, "Alice", name)
	}
	assert.False(t, p.admitted("alic", "pass"))
}

// AUT-04: a password is compared byte by byte, as a whole.
func TestUsersPasswords(t *testing.T) {
	long := strings.Repeat("p", 72)
	stored := map[string]string{
		"short": "Pa ss", "long": long + "xy", "longest": strings.Repeat("q", login.MaxPassword), "nul": "a\x00a", "binary": "\xff\xfe", "composed": "é",
	}
	var lines []string
	for user, password := range stored {
		lines = append(lines, user+":"+login.CheapHash(password))
	}
	p := newPeople(t, lines...)
	for user, password := range stored {
		assert.True(t, p.admitted(user, password), user)
	}
	for _, tc := range []struct{ user, password string }{
		{"short", "pa ss"},
		{"short", "Pa ss "},
		{"short", " Pa ss"},
		{"short", "Pass"},
		{"short", "Pa s"},
		{"short", ""},
		{"short", "Pa ss\n"},
		{"long", long},
		{"long", long + "x"},
		{"long", long + "xz"},
		{"long", long + "xyz"},
		{"long", long[1:] + "oxy"},
		{"nul", "a"},
		{"nul", "a\x00"},
		{"nul", "a\x00a\x00"},
		{"composed", "e\u0301"},
		{"longest", strings.Repeat("q", login.MaxPassword-1)},
		{"longest", strings.Repeat("q", login.MaxPassword+1)},
	} {
		assert.False(t, p.admitted(tc.user, tc.password), "%s %.20q", tc.user, tc.password)
	}

	for _, n := range []int{login.MaxPassword + 1, 1 << 20} {
		before := p.count.N.Load()
		_, err := p.login("short", strings.Repeat("p", n))
		assert.Equal(t, login.ErrRefused, err, "the same error as any")
		assert.Equal(t, before, p.count.N.Load(), "a password that is too long is not hashed")
	}
}

// The same with bcrypt, which by itself ignores what is beyond 72 bytes and cannot tell "a" from "a\x00a".
func TestUsersBcryptPasswords(t *testing.T) {
	long := strings.Repeat("p", 72)
	p := newPeople(t, "long:"+bcryptHash(t, long), "a:"+bcryptHash(t, "a"))
	before := p.read()
	for _, tc := range []struct{ user, password string }{
		{"long", long + "x"}, {"long", long[:71]}, {"long", long[:71] + "q"}, {"a", "a\x00a"}, {"a", "a\x00"}, {"a", ""}, {"a", "A"}, {"a", "a "},
	} {
		assert.False(t, p.admitted(tc.user, tc.password), "%s %q", tc.user, tc.password)
	}
	assert.Equal(t, before, p.read(), "only a good login replaces a hash")
	assert.True(t, p.admitted("long", long))
	assert.True(t, p.admitted("a", "a"))
}

// AUT-02, and AUT-01 as far as this package goes: whatever the reason of a refusal, the error is the same, and so is the
// work: one computation, of one cost.
func TestUsersOneComputation(t *testing.T) {
	const memory = 24 // KiB: not the cost of new hashes, so that only the file's can be where it comes from
	hash := func() string { return login.HashOfCost("pass", memory, 2, 1) }
	p := newPeople(t, "ann:"+hash(), "bob:!"+hash(), "cee:", "dan:!", "eve:"+hash(), "fay:"+login.HashOfCost("", memory, 2, 1))
	for _, tc := range []struct {
		name, user, password string
		want                 error
	}{
		{name: "good", user: "ann", password: "pass"},
		{name: "wrong", user: "ann", password: "word", want: login.ErrRefused},
		{name: "empty", user: "ann", password: "", want: login.ErrRefused},
		{name: "unknown", user: "zoe", password: "pass", want: login.ErrRefused},
		{name: "unknown, empty", user: "zoe", password: "", want: login.ErrRefused},
		{name: "nobody's name", user: " ", password: "pass", want: login.ErrRefused},
		{name: "disabled, right password", user: "bob", password: "pass", want: login.ErrRefused},
		{name: "disabled, wrong password", user: "bob", password: "word", want: login.ErrRefused},
		{name: "no password", user: "cee", password: "pass", want: login.ErrRefused},
		{name: "no password, empty", user: "cee", password: "", want: login.ErrRefused},
		{name: "disabled, no password", user: "dan", password: "pass", want: login.ErrRefused},
		{name: "empty, and it would match", user: "fay", password: "", want: login.ErrRefused},
		{name: "longest", user: "ann", password: strings.Repeat("p", login.MaxPassword), want: login.ErrRefused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := p.count.N.Load()
			p.count.Memory.Store(0)
			_, err := p.login(tc.user, tc.password)
			assert.Equal(t, tc.want, err, "the very same error")
			assert.Equal(t, int64(1), p.count.N.Load()-before)
			assert.Equal(t, int64(memory), p.count.Memory.Load())
		})
	}
}

// While a file holds bcrypt hashes, every attempt makes the same bcrypt rounds too.
func TestUsersDummyWork(t *testing.T) {
	p := newPeople(t, "ann:"+login.HashOfCost("a", 64, 3, 1), "bob:"+login.HashOfCost("b", 32, 2, 2), "cee:"+login.HashOfCost("c", 32, 2, 2))
	dummy := func() string {
		m, tt, threads := p.users.DummyCost()
		return fmt.Sprintf("m=%d,t=%d,p=%d", m, tt, threads)
	}
	assert.Equal(t, "m=32,t=2,p=2", dummy(), "the cost that most hashes have")
	assert.Zero(t, p.users.BcryptRounds())

	p.write("ann:"+bcryptHash(t, "a"), "bob:")
	p.reload()
	assert.Equal(t, login.Cheap, dummy(), "new hashes' cost where there is none")
	assert.Equal(t, 4, p.users.BcryptRounds())
	before := p.count.N.Load()
	for _, user := range []string{"ann", "bob", "zoe"} {
		assert.False(t, p.admitted(user, "wrong"))
	}
	assert.Equal(t, int64(3), p.count.N.Load()-before)
	assert.True(t, p.admitted("ann", "a"))
	assert.Zero(t, p.users.BcryptRounds(), "the last one was replaced")
}

func TestNewUsersErrors(t *testing.T) {
	_, err := login.NewUsers(filepath.Join(t.TempDir(), "absent"), login.UsersOptions{})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = login.NewUsers(writeFile(t, "ann:x\nbob:y"), login.UsersOptions{})
	assert.ErrorContains(t, err, `"ann"`)
	assert.ErrorContains(t, err, `"bob"`)
	_, err = login.NewUsers(writeFile(t, ""), login.UsersOptions{Hashes: -1})
	assert.Error(t, err)
}

func TestUsersReload(t *testing.T) {
	ann, bob, cee := login.CheapHash("a"), login.CheapHash("b"), login.CheapHash("c")
	p := newPeople(t, "ann:"+ann, "bob:"+bob, "cee:"+cee, "dan:", "eve:!"+cee, "Fay:"+ann)
	assert.Empty(t, p.reload(), "nothing changed")

	p.write("# sorted otherwise", "Fay:"+ann, "eve:!"+cee, "dan:", "cee:"+cee, "bob:"+bob, "ann:"+ann, "gus:"+ann)
	assert.Empty(t, p.reload(), "no user was changed, one was added")
	assert.True(t, p.admitted("gus", "a"))

	p.write("ann:"+login.CheapHash("a"), "bob:!"+bob, "dan:"+bob, "eve:"+cee, "fay:"+ann)
	assert.Equal(t, []string{"Fay", "ann", "bob", "cee", "dan", "gus"}, p.reload(),
		"renamed, changed by hand (if only its salt), disabled, removed, given a password, removed; eve was enabled, and is not in it")
	assert.True(t, p.admitted("eve", "c"))
	for user, want := range map[string]bool{"ann": true, "bob": false, "cee": false, "dan": true, "eve": true, "fay": true, "Fay": false, "ANN": false, "": false} {
		assert.Equal(t, want, p.users.Admits([]byte(user)), "a session of %q", user)
	}

	p.write("ann:broken", "bob:"+bob)
	changed, err := p.users.Reload()
	require.Error(t, err)
	assert.Empty(t, changed)
	assert.True(t, p.users.Admits([]byte("eve")), "a broken file changes nothing")
	assert.True(t, p.admitted("ann", "a"))
	p.write("ann:" + ann)
	assert.Equal(t, []string{"ann", "bob", "dan", "eve", "fay"}, p.reload(), "the comparison is with the users that were in force")
}

func TestUsersAdmitsAllocates(t *testing.T) {
	p := newPeople(t, "ann:")
	ann, unknown := []byte("ann"), []byte(strings.Repeat("unknown", 30))
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		if !p.users.Admits(ann) || p.users.Admits(unknown) {
			t.Fatal("wrong")
		}
	}))
}

// AUT-05: no more hashes run at once than the options allow. Further logins wait, and those for which the queue has no room are
// refused at once.
func TestUsersBounded(t *testing.T) {
	const slots, queue, all = 3, 7, 1000
	var mu sync.Mutex
	now, most := 0, 0
	release := make(chan struct{})
	count := &login.Computations{During: func() {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		<-release
		mu.Lock()
		now--
		mu.Unlock()
	}}
	users, err := login.NewCheapUsers(writeFile(t, "ann:"+login.CheapHash("a")), login.UsersOptions{Hashes: slots, Queue: queue}, count)
	require.NoError(t, err)
	errs := make(chan error, all)
	for i := range all {
		go func() {
			_, err := users.Check(t.Context(), &login.Attempt{UserID: fmt.Sprint("user", i), Password: []byte("x")})
			errs <- err
		}()
	}
	for range all - slots - queue {
		assert.ErrorIs(t, <-errs, login.ErrBusy)
	}
	close(release)
	for range slots + queue {
		assert.ErrorIs(t, <-errs, login.ErrRefused)
	}
	assert.Equal(t, slots, most)
	assert.Equal(t, int64(slots+queue), count.N.Load(), "no hash is computed for a login that is refused at once")
	assert.Zero(t, users.Waiting())
}

// A login that waits is refused after a second, or as soon as its client gives up.
func TestUsersWaiting(t *testing.T) {
	file := writeFile(t, "ann:"+login.CheapHash("a"))
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		count := &login.Computations{During: func() { <-release }}
		users, err := login.NewCheapUsers(file, login.UsersOptions{Hashes: 1}, count)
		require.NoError(t, err)
		attempt := &login.Attempt{UserID: "ann", Password: []byte("a")}
		first := make(chan error)
		go func() {
			_, err := users.Check(t.Context(), attempt)
			first <- err
		}()
		synctest.Wait()

		began := time.Now()
		_, err = users.Check(t.Context(), attempt)
		assert.ErrorIs(t, err, login.ErrBusy)
		assert.Equal(t, time.Second, time.Since(began))

		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began = time.Now()
		_, err = users.Check(ctx, attempt)
		assert.ErrorIs(t, err, login.ErrBusy)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 100*time.Millisecond, time.Since(began))

		close(release)
		require.NoError(t, <-first)
		_, err = users.Check(t.Context(), attempt)
		assert.NoError(t, err, "no login that gave up holds a slot")
	})
}

// The memory that logins take depends on how many hashes run at once, not on how many logins come (AUT-05). The hashes have the
// real cost.
func TestUsersMemory(t *testing.T) {
	hash, err := login.HashPassword([]byte("a"))
	require.NoError(t, err)
	collected := func(password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte {
		runtime.GC() // or garbage would count, of which there is more where the collector gets little of the processor
		return argon2.IDKey(password, salt, time, memory, threads, keyLen)
	}
	users, err := login.NewUsers(writeFile(t, "ann:"+hash), login.UsersOptions{Hashes: 1, Queue: 100, IDKey: collected})
	require.NoError(t, err)
	runtime.GC() // what tests before this one left
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { _, _ = users.Check(t.Context(), &login.Attempt{UserID: "ann", Password: []byte("b")}) })
	}
	var peak uint64
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse)
			runtime.Gosched()
		}
	}
	t.Logf("at most %d MiB in use", peak>>20)
	assert.Less(t, peak, uint64(80<<20), "one hash is 19 MiB; all eight at once were 152")
}

// AUT-02: what is left of a difference is said.
func TestUsersNote(t *testing.T) {
	for name, tc := range map[string]struct {
		lines []string
		noted bool
	}{
		"one cost":                {[]string{"ann:" + login.CheapHash("a"), "bob:" + login.CheapHash("b")}, false},
		"one other cost":          {[]string{"ann:" + login.HashOfCost("a", 64, 3, 2), "bob:"}, false},
		"bcrypt costs each login": {[]string{"ann:" + login.CheapHash("a"), "bob:" + bcryptHash(t, "b")}, false},
		"a stronger one":          {[]string{"ann:" + login.CheapHash("a"), "bob:" + login.HashOfCost("b", 64, 3, 2)}, true},
		"a weaker one":            {[]string{"ann:" + login.CheapHash("a"), "bob:" + login.HashOfCost("b", 8, 2, 1)}, true},
		"a disabled user's":       {[]string{"ann:" + login.CheapHash("a"), "bob:!" + login.HashOfCost("b", 64, 3, 2)}, true},
	} {
		p := newPeople(t, tc.lines...)
		assert.Equal(t, tc.noted, p.users.Note() != "", "%s: %q", name, p.users.Note())
		if name == "a weaker one" {
			require.True(t, p.admitted("bob", "b"))
			assert.Empty(t, p.users.Note(), "it was raised")
		}
	}
}
