package storetest_test

import (
	"testing"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
	"github.com/coatcheck/coatcheck/storetest"
)

// A store of your own passes this with the race detector, and is then as good as those that come with coatcheck. The constructor
// is called once a rule; Run closes what it returns.
func ExampleRun() {
	_ = func(t *testing.T) { // func TestStore(t *testing.T) in your package
		storetest.Run(t, func(t *testing.T) coatcheck.Store {
			store, err := shardstore.New(shardstore.Options{}) // yours
			if err != nil {
				t.Fatal(err)
			}
			return store
		})
	}
}
