package login

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"
)

// Cheap is the cost of hashes in tests: as low as argon2id goes.
const Cheap = "m=16,t=2,p=1"

var cheap = cost{memory: 16, time: 2, threads: 1}

// Computations counts argon2id computations, and can hold them up.
type Computations struct {
	N      atomic.Int64
	Memory atomic.Int64 // KiB of the last one
	// During is called in each one, if it is set.
	During func()
}

func (c *Computations) derive(password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte {
	c.N.Add(1)
	c.Memory.Store(int64(memory))
	if c.During != nil {
		c.During()
	}
	return argon2.IDKey(password, salt, time, memory, threads, keyLen)
}

// NewCheapUsers is NewUsers with cheap hashes, which are counted.
func NewCheapUsers(file string, opt UsersOptions, c *Computations) (*Users, error) {
	return newUsers(file, opt, cheap, c.derive)
}

// CheapHash returns a hash that NewCheapUsers finds good enough.
func CheapHash(password string) string { return hashPassword(argon2id, cheap, []byte(password)).text }

// HashOfCost returns a hash of another cost.
func HashOfCost(password string, memory, time uint32, threads uint8) string {
	return hashPassword(argon2id, cost{memory, time, threads}, []byte(password)).text
}

// HashWithSalt returns a hash of the usual cost with a salt of one's own.
func HashWithSalt(password, salt string) string {
	h := newPHC(cheap)
	h.salt = []byte(salt)
	h.tag = h.compute(argon2id, []byte(password))
	return h.String()
}

// BcryptRounds returns the cost of the bcrypt rounds that every attempt makes; 0: none.
func (u *Users) BcryptRounds() int { return u.work.Load().bcrypt }

// DummyCost returns the parameters of the hash that stands in for none.
func (u *Users) DummyCost() (memory, time uint32, threads uint8) {
	c := u.work.Load().dummy.cost
	return c.memory, c.time, c.threads
}

// ParsePHC returns what a PHC string says, written again.
func ParsePHC(s string) (string, error) {
	h, err := parsePHC(s)
	if err != nil {
		return "", err
	}
	return h.String(), nil
}

// ParseUsers returns the users of a file: name, and the hash with its mark.
func ParseUsers(data []byte) (map[string]string, error) {
	d, err := parseUsers("users", data)
	if err != nil {
		return nil, err
	}
	all := make(map[string]string, len(d.byName))
	for name, u := range d.byName {
		all[name] = u.hashText()
		if u.disabled {
			all[name] = "!" + all[name]
		}
	}
	return all, nil
}

// Rewrite is a rewrite of the users file that was staged.
type Rewrite struct{ r *rewrite }

// StageRewrite stages one; ok is false if there is nothing to rewrite.
func StageRewrite(file, name, old, fresh string) (w Rewrite, ok bool, err error) {
	r, err := stageRewrite(file, name, old, fresh)
	return Rewrite{r}, r != nil, err
}

// Commit commits it.
func (w Rewrite) Commit() (bool, error) { return w.r.commit() }

// WithHash is withHash.
var WithHash = withHash

// Buckets of a throttle, for tests of what shares one.
var (
	AccountBucket = accountBucket
	AddressBucket = addressBucket
)

// Skeleton is skeleton.
var Skeleton = skeleton

// SmallLedger returns a MemoryLedger with 8 places in each of so many sets, which are soon full.
func SmallLedger(rule Rule, sets int) *MemoryLedger { return newMemoryLedger(rule, sets) }

// Normalised reports whether the attempt's name was normalised.
func (a *Attempt) Normalised() bool { return a.canonical != "" }

// Counted returns all that the ledger has counted.
func (m *MemoryLedger) Counted() (all []any) {
	for i := range m.sets {
		all = append(all, m.sets[i].places, m.sets[i].rest)
	}
	return all
}

// Waiting is how many attempts wait for their turn.
func (u *Users) Waiting() int { return int(u.gate.waiting.Load()) }

// SetClock makes the webhook's limit go by another clock, and forget what it has counted.
func (w *Webhook) SetClock(now func() time.Time) { w.limit = newLimit(webhookFailures, now) }

// Transport is what the webhook's requests go through.
func (w *Webhook) Transport() *http.Transport { return w.client.Transport.(*http.Transport) }

// LearnedAliases returns how many of n different names aliases keep.
func LearnedAliases(n int) int {
	var a aliases
	for i := range n {
		a.learn(fmt.Sprint(i), "user")
	}
	return len(a.byName)
}
