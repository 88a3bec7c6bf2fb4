package login_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/coatcheck/coatcheck/server/login"
)

func TestAttemptIsNotPrinted(t *testing.T) {
	a := &login.Attempt{UserID: "ann", Password: []byte("hunter2"), Authorization: []byte("Bearer hunter2"), Body: []byte("hunter2")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		assert.Equal(t, "login.Attempt", fmt.Sprintf(verb, a))
		assert.Equal(t, "login.Attempt", fmt.Sprintf(verb, *a))
	}
}
