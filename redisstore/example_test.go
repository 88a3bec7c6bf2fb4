package redisstore_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

// The store is used through coatcheck.Manager, or server.Sessions; this example only pings it.
func ExampleNew() {
	redis := new(exampleTB)
	defer redis.done()
	url := redistest.Start(redis).URL()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	store, err := redisstore.New(ctx, redisstore.Options{URL: url, Prefix: "shop:", CacheSize: 256 << 20, Timeout: 3 * time.Second})
	if err != nil {
		panic(err)
	}
	defer store.Close() //nolint:errcheck // its error does not matter any more
	manager, err := coatcheck.NewManager(store, coatcheck.Policy{})
	if err != nil {
		panic(err)
	}
	ended, err := manager.EndUser(ctx, "ada")
	fmt.Println(ended, err, store.Ping(ctx))
	// Output: 0 <nil> <nil>
}

// Inspect reports what is wrong with a Redis before any session is in it.
func ExampleInspect() {
	redis := new(exampleTB)
	defer redis.done()
	url := redistest.Start(redis, "appendonly yes", "maxmemory 100mb", "maxmemory-policy allkeys-lru").URL()

	found, err := redisstore.Inspect(context.Background(), redisstore.Options{URL: url, Timeout: 3 * time.Second})
	if err != nil {
		panic(err)
	}
	for _, f := range found {
		if f.Level != redisstore.Fine {
			fmt.Println(f.Check+":", f.Text)
		}
	}
	// Output: eviction: Redis may evict sessions, which logs people out, and what says which sessions a user has, which keeps revocation and the limit from finding them; set maxmemory-policy noeviction, it is allkeys-lru
}

// exampleTB lets an example start a Redis as tests do. It implements only the methods of a test that redistest uses.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (*exampleTB) Helper()                   {}
func (*exampleTB) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (*exampleTB) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (e *exampleTB) Cleanup(f func())        { e.cleanups = append(e.cleanups, f) }

func (e *exampleTB) TempDir() string {
	dir, err := os.MkdirTemp("", "redis-")
	if err != nil {
		panic(err)
	}
	e.Cleanup(func() { _ = os.RemoveAll(dir) }) // the example is over
	return dir
}

func (e *exampleTB) done() {
	for len(e.cleanups) > 0 {
		last := len(e.cleanups) - 1
		e.cleanups[last]()
		e.cleanups = e.cleanups[:last]
	}
}
