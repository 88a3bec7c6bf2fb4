package redisstore_test

import (
	"testing"

	"go.uber.org/goleak"
)

// rueidis has goroutines that sleep and do not wake when it is closed: for up to a second before it asks a Cluster who serves
// what, and for five before it closes connections to nodes that are no more.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(
		m,
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient).redirectOrNew.func1"),
	)
}
