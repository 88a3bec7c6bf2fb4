package login

import (
	"crypto/sha256"
	"sync"
)

// maxAliases bounds the memory of aliases: some 300 bytes each at most.
const maxAliases = 8192

// aliases remembers whom a back end let in by which name. It is no more than a guess at whose login the next one by that
// name is, made before the check, so that the login can carry that user's mark from before it. A wrong guess refuses a
// login for the minute after all of the user's sessions were ended, as having none does; it lets nobody in.
type aliases struct {
	mu     sync.RWMutex
	byName map[[16]byte]string // guarded by mu; by a digest of the name that was typed
}

func digestOfName(name string) [16]byte {
	sum := sha256.Sum256([]byte(name))
	return [16]byte(sum[:16])
}

// userOf returns whom the name let in last, the name itself if that is not known.
func (a *aliases) userOf(name string) string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if user, ok := a.byName[digestOfName(name)]; ok {
		return user
	}
	return name
}

// learn notes that the name let the user in. When there are too many, others are forgotten.
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
