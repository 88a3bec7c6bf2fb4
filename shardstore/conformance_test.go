package shardstore_test

import (
	"testing"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
	"github.com/coatcheck/coatcheck/storetest"
)

func TestConformance(t *testing.T) {
	for name, opt := range map[string]shardstore.Options{
		"default":       {},
		"one shard":     {Shards: 1},
		"with a limit":  {MaxSessions: 100_000},
		"eager janitor": {JanitorEvery: 1e6},
		"on disk":       {Dir: "yes", SnapshotBytes: 4 << 10},
		"every answer":  {Dir: "yes", FsyncEvery: -1},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) coatcheck.Store {
				opt := opt
				if opt.Dir != "" {
					opt.Dir = t.TempDir()
				}
				s, err := shardstore.New(opt)
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}
