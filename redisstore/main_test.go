package redisstore_test

import (
	"testing"

	"go.uber.org/goleak"
)

// rueidis sleeps for up to a second before it asks a Cluster who serves what, and does not wake when it is closed.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"))
}
