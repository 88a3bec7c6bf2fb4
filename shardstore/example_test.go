package shardstore_test

import (
	"fmt"
	"os"

	"github.com/coatcheck/coatcheck/shardstore"
)

// With a folder the store survives a restart and a crash.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "sessions-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the example is over
	store, err := shardstore.New(shardstore.Options{Dir: dir, MaxSessions: 1_000_000})
	if err != nil {
		panic(err)
	}
	_, err = shardstore.Verify(dir)
	fmt.Println("while it runs, the folder is its own:", err != nil)
	if err := store.Close(); err != nil {
		panic(err)
	}
	n, err := shardstore.Verify(dir)
	fmt.Println(n, err)
	// Output:
	// while it runs, the folder is its own: true
	// 0 <nil>
}
