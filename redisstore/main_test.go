package redisstore_test

import (
	"testing"

	"go.uber.org/goleak"
)

// rueidis has goroutines that sleep and do not wake when it is closed: for up to a second before it asks a Cluster for its
// slots, and for five before it closes connections to nodes that have left.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(
		cleaning{m},
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient).redirectOrNew.func1"),
	)
}
