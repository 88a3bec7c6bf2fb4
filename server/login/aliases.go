package login

import (
	"crypto/sha256"
	"sync"
)

// maxAliases bounds the memory of aliases: some 300 bytes each at most.
const maxAliases = 8192

// aliases remembers which user a back end let in by which name. It only guesses, before the check, which user the next
// login by that name is for, so that the login can carry that user's mark from before the check. A wrong guess, like none,
// refuses a login in the minute after all of the user's sessions were ended; it never admits one.
type aliases struct {
	mu     sync.RWMutex
	byName map[[16]byte]string // guarded by mu; by a digest of the name that was typed
}

func digestOfName(name string) [16]byte {
	sum := sha256.Sum256([]byte(name))
	return [16]byte(sum[:16])
}

// userOf returns the user that the name let in last, or the name itself if that is not known.
func (a *aliases) userOf(name string) string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if user, ok := a.byName[digestOfName(name)]; ok {
		return user
	}
	return name
}

// learn notes that the name let the user in. When there are too many names, others are forgotten.
func (a *aliases) learn(name, user string) {
	if a.userOf(name) == user {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byName == nil {
		a.byName = make(map[[16]byte]string)
	}
	for forgotten := range a.byName {
		if len(a.byName) < maxAliases {
			break
		}
		delete(a.byName, forgotten)
	}
	a.byName[digestOfName(name)] = user
}
