package login

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/coatcheck/coatcheck"
)

// UsersOptions says how Users works. The zero value works.
type UsersOptions struct {
	// Hashes is how many passwords are hashed at once. Each hash takes 19 MiB with the default cost, or as much as the hash
	// in the users file says. 0 is one less than GOMAXPROCS, and at least 1: with a hash on every core, requests that need
	// none take 30 ms in the median instead of 0.2 (measured on 2 cores).
	Hashes int
	// Queue is how many attempts wait for a hash, a second at most; a further attempt gets ErrBusy. 0 is 32.
	Queue int
	// IDKey computes argon2id in place of argon2.IDKey, and must return the same result. Package hashproc has one that
	// computes it in another process. Nil is argon2.IDKey.
	IDKey func(password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte
	// Logger gets a line when a hash in the file could not be replaced by a better one. Nil is slog.Default().
	Logger *slog.Logger
}

// Users admits users by the passwords of the users file, and says which users' sessions are valid. It is safe for
// concurrent use.
type Users struct {
	file   string
	gate   *gate
	log    *slog.Logger // nil: slog.Default()
	derive deriveFunc
	cost   cost // of new hashes

	// people is the content of the file, and work the cost of an attempt. Both are written under mu.
	people atomic.Pointer[directory]
	work   atomic.Pointer[work]
	// frozen says that a hash could not be replaced, so no replacement is tried again until the next Reload. It is written
	// under mu.
	frozen atomic.Bool

	mu     sync.Mutex // held while the file is read or written
	census *census    // guarded by mu
}

// NewUsers returns the mode with the users of the file, or an error with all mistakes of the file.
func NewUsers(file string, opt UsersOptions) (*Users, error) {
	derive := argon2id
	if opt.IDKey != nil {
		derive = opt.IDKey
	}
	return newUsers(file, opt, minCost, derive)
}

func newUsers(file string, opt UsersOptions, c cost, derive deriveFunc) (*Users, error) {
	if opt.Hashes < 0 || opt.Queue < 0 {
		return nil, fmt.Errorf("users: %d hashes at once and a queue of %d: must not be negative", opt.Hashes, opt.Queue)
	}
	if opt.Hashes == 0 {
		opt.Hashes = max(1, runtime.GOMAXPROCS(0)-1)
	}
	if opt.Queue == 0 {
		opt.Queue = 32
	}
	u := &Users{file: file, gate: newGate(opt.Hashes, opt.Queue), log: opt.Logger, derive: derive, cost: c}
	u.people.Store(new(directory))
	if _, err := u.Reload(); err != nil {
		return nil, err
	}
	return u, nil
}

// UserOf returns the name, as it stands in the file, of the user that the attempt is for, and for an unknown user the name
// itself.
func (u *Users) UserOf(a *Attempt) string {
	if found := u.people.Load().byCanonical[a.canonicalName()]; found != nil {
		return found.name
	}
	return a.UserID
}

// Traits are the secret and the form of a password.
func (*Users) Traits() Traits { return Traits{Guesses: GuessesPassword, Form: PasswordForm} }

// Check returns the name, as it stands in the file, of the user with this password. A refusal takes the same work whatever
// its reason, except for a password over MaxPassword bytes and a name over coatcheck.MaxUserID, whose lengths the client knows
// anyway.
func (u *Users) Check(ctx context.Context, a *Attempt) (string, error) {
	if len(a.Password) > MaxPassword || a.tooLong() {
		return "", ErrRefused
	}
	who, fresh, err := u.verify(ctx, a)
	if err != nil {
		return "", err
	}
	if fresh != nil {
		u.replace(who, fresh)
	}
	a.Claims = who.claims
	return who.name, nil
}

// verify returns the user that the attempt admits and, if their hash is to be replaced, the new hash.
func (u *Users) verify(ctx context.Context, a *Attempt) (who *admitted, fresh *stored, err error) {
	if err := u.gate.enter(ctx); err != nil {
		return nil, nil, err
	}
	defer u.gate.leave()
	var hash *stored
	found := u.people.Load().byCanonical[a.canonicalName()]
	if found != nil {
		hash = found.hash.Load()
	}
	ok := u.work.Load().matches(u.derive, hash, a.Password)
	if !ok || found.disabled || len(a.Password) == 0 {
		return nil, nil, ErrRefused
	}
	if hash.outdated(u.cost) && !u.frozen.Load() {
		c := u.cost
		if hash.argon != nil {
			c = hash.argon.raised(c)
		}
		fresh = hashPassword(u.derive, c, a.Password)
	}
	return &admitted{name: found.name, claims: found.claims, hash: hash}, fresh, nil
}

// admitted is a user and the hash that their password matched.
type admitted struct {
	name   string
	claims coatcheck.ClaimSet
	hash   *stored
}

// replace puts a better hash in the place of the one in the file, if the old hash is still there. The login does not depend
// on it.
func (u *Users) replace(who *admitted, fresh *stored) {
	u.mu.Lock()
	defer u.mu.Unlock()
	r, err := stageRewrite(u.file, who.name, who.hash.text, fresh.text)
	if err != nil {
		u.freeze(err)
		return
	}
	if r == nil {
		return
	}
	done, err := r.commit()
	if err != nil {
		u.freeze(err)
	}
	if !done {
		return
	}
	if now := u.people.Load().byName[who.name]; now != nil && now.hashText() == who.hash.text {
		now.hash.Store(fresh)
		u.census.count(who.hash, -1)
		u.census.count(fresh, 1)
		u.work.Store(u.census.work(u.cost))
	}
}

func (u *Users) freeze(err error) {
	u.frozen.Store(true)
	log := u.log
	if log == nil {
		log = slog.Default()
	}
	log.Warn("hashes of the users file stay as they are until it is read again", "file", u.file, "error", err)
}

// Reload reads the file again. It returns, by their old names, the users that are no longer in it, that are disabled now,
// or whose hash or claims were changed by hand, or by another process with the same file: their sessions have to be ended. On an
// error, which lists all mistakes, the users stay unchanged.
func (u *Users) Reload() (changed []string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	data, err := os.ReadFile(u.file)
	if err != nil {
		return nil, fmt.Errorf("users file: %w", err)
	}
	now, err := parseUsers(u.file, data)
	if err != nil {
		return nil, err
	}
	for name, was := range u.people.Load().byName {
		is := now.byName[name]
		if is == nil || (is.disabled && !was.disabled) || is.hashText() != was.hashText() || !bytes.Equal(is.claims.JSON(), was.claims.JSON()) {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	u.census = takeCensus(now)
	u.work.Store(u.census.work(u.cost))
	u.people.Store(now)
	u.frozen.Store(false)
	return changed, nil
}

// Note is a remark on the file that is no mistake; empty: no remark.
func (u *Users) Note() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := u.census.costs()
	if n < 2 {
		return ""
	}
	usual := u.work.Load().dummy.cost
	return fmt.Sprintf("users file %s: its argon2id hashes have %d different costs; how long a login takes tells the users whose hash is not of "+
		"m=%d,t=%d,p=%d, the cost of most, from names that do not exist", u.file, n, usual.memory, usual.time, usual.threads)
}

// Admits reports whether the user's sessions are valid: the user is in the file, by exactly this name, and not disabled. It
// neither locks nor allocates.
func (u *Users) Admits(userID []byte) bool {
	found := u.people.Load().byName[string(userID)]
	return found != nil && !found.disabled
}
