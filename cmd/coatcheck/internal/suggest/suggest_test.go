package suggest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/suggest"
)

func TestNearest(t *testing.T) {
	known := []string{"ttl", "listen", "admin-listen", "login", "max-sessions", "max-sessions-per-user", "users-file", "store", "dev"}
	for word, want := range map[string]string{
		"tll": "ttl", "tl": "ttl", "tttl": "ttl", "lisen": "listen", "lsiten": "listen", "Listen": "listen", "user-file": "users-file",
		"usersfile": "users-file", "max_sessions": "max-sessions", "maxsession": "max-sessions", "login": "login", "stor": "store",
		"admin-lsiten": "admin-listen", "det": "dev",
		"": "", "x": "", "port": "", "wholly-different": "", "sessions": "", "eed": "",
	} {
		assert.Equal(t, want, suggest.Nearest(word, known), word)
	}
	assert.Equal(t, "; did you mean --ttl?", suggest.DidYouMean("tll", "--", known))
	assert.Empty(t, suggest.DidYouMean("nothing-like-it", "--", known))
}
