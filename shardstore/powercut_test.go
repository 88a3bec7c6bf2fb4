package shardstore_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// TestPowerCut cuts the power at random moments of mixed traffic with snapshots. With an fsync before each answer no
// acknowledged change is lost; otherwise no change is lost that was acknowledged before a sync began. The store always
// starts.
func TestPowerCut(t *testing.T) {
	for name, every := range map[string]time.Duration{"before each answer": -1, "now and then": time.Hour} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(turns(150)) {
				powerCut(t, rand.New(rand.NewPCG(seed, 7)), every)
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

func powerCut(t *testing.T, r *rand.Rand, every time.Duration) {
	dir, disk := t.TempDir(), shardstore.NewPower()
	sure := map[coatcheck.Key]uint64{} // version that must be there; 0: the session must be gone
	for range 3 {                      // the power is cut again and again
		s := onDisk(t, dir, disk.Use, func(opt *shardstore.Options) { opt.FsyncEvery = every })
		for key, version := range sure {
			var got coatcheck.Record
			err := s.Load(context.Background(), key, coatcheck.ID{}, t0, &got)
			if version == 0 {
				require.Error(t, err, "an ended session is back")
				continue
			}
			require.NoError(t, err)
			require.GreaterOrEqual(t, got.Version, version)
		}
		_, err := s.Sizes()
		require.NoError(t, err)
		disk = traffic(t, r, s, disk, sure, every < 0)
		s.Abandon()
	}
}

// traffic runs random operations and returns what a power cut in the middle of them leaves.
func traffic(t *testing.T, r *rand.Rand, s *shardstore.Store, disk *shardstore.Power, sure map[coatcheck.Key]uint64, everyAnswer bool) *shardstore.Power {
	var answered []func() // changes that the next sync makes sure
	live := map[coatcheck.Key]*coatcheck.Record{}
	know := func(key coatcheck.Key, version uint64) {
		answered = append(answered, func() { sure[key] = version })
	}
	var snapshots sync.WaitGroup
	defer snapshots.Wait()
	for range r.IntN(120) {
		var rec *coatcheck.Record
		for _, rec = range live {
			break
		}
		switch what := r.IntN(20); {
		case rec == nil || what < 8:
			rec = add(t, s, "ada", t0, time.Hour)
			live[rec.Key] = rec
			know(rec.Key, 1)
		case what < 14:
			delete(sure, rec.Key) // until the change is acknowledged and synced, either version may be there
			require.NoError(t, renew(t, s, rec, t0, time.Hour))
			require.NoError(t, s.Load(context.Background(), rec.Key, rec.ID, t0, rec))
			know(rec.Key, rec.Version)
		case what < 17:
			delete(sure, rec.Key)
			end(t, s, rec)
			delete(live, rec.Key)
			know(rec.Key, 0)
		case what < 18 && r.IntN(2) == 0: // the moment between the two steps of a snapshot
			require.NoError(t, s.Rotate())
		case what < 18:
			snapshots.Go(func() { _ = s.Snapshot() })
			snapshots.Wait() // Rotate, above, must not run beside a snapshot
		default:
			done := answered
			answered = nil
			require.NoError(t, s.SyncNow())
			for _, f := range done {
				f()
			}
		}
		if everyAnswer {
			for _, f := range answered {
				f()
			}
			answered = nil
		}
		if r.IntN(60) == 0 {
			break
		}
	}
	snapshots.Go(func() { _ = s.Snapshot() })
	cut := disk.Cut(r)
	return cut
}

// A store that is killed within a snapshot leaves two journals, of which the older one may not be synced. The next store syncs both
// before it says that everything up to there is durable.
func TestPowerCutAfterAKillWithinASnapshot(t *testing.T) {
	for seed := range uint64(turns(60)) {
		dir, disk, r := t.TempDir(), shardstore.NewPower(), rand.New(rand.NewPCG(seed, 7))
		unsynced := func(opt *shardstore.Options) { opt.FsyncEvery = time.Hour }
		s := onDisk(t, dir, disk.Use, unsynced)
		rec := add(t, s, "ada", t0, time.Hour)
		require.NoError(t, s.SyncNow())
		for range 20 { // some sectors
			add(t, s, "cy", t0, time.Hour)
		}
		end(t, s, rec)
		require.NoError(t, s.Rotate())
		s.Abandon()

		s = onDisk(t, dir, disk.Use, unsynced)
		for range 2 { // the second write puts the D of the first sync into the file
			add(t, s, "bob", t0, time.Hour)
			require.NoError(t, s.SyncNow())
		}
		cut := disk.Cut(r)
		s.Abandon()

		s = onDisk(t, dir, cut.Use, unsynced)
		require.ErrorIs(t, load(s, rec.Key, t0), coatcheck.ErrEnded, "seed %d", seed)
		s.Abandon()
	}
}
