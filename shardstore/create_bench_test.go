//go:build unix

package shardstore_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// logins creates sessions of users in turn, each a millisecond of the test's clock after the last.
type logins struct {
	s     *shardstore.Store
	users []string
	turn  atomic.Int64
}

// newLogins returns logins of that many users, each of which has that many sessions already.
func newLogins(b *testing.B, opt shardstore.Options, users, sessions int) *logins {
	b.Helper()
	l := &logins{}
	opt.JanitorEvery, opt.Now = asleep, func() time.Time { return l.clock(l.turn.Load()) }
	l.s = newStore(b, opt)
	for i := range users {
		l.users = append(l.users, benchUser(i))
	}
	var rec coatcheck.Record
	for range users * sessions {
		require.NoError(b, l.next(&rec, sessions))
	}
	return l
}

func (l *logins) clock(turn int64) time.Time { return t0.Add(time.Duration(turn) * time.Millisecond) }

// next is a login of the next user in turn; beyond the limit it ends the user's oldest session.
func (l *logins) next(rec *coatcheck.Record, limit int) error {
	turn := l.turn.Add(1)
	user := l.users[int(turn)%len(l.users)]
	var key coatcheck.Key
	tag := coatcheck.TagOf(user)
	copy(key[:], tag[:])
	binary.BigEndian.PutUint64(key[8:], uint64(turn)*0x9E3779B97F4A7C15)
	now := l.clock(turn)
	err := rec.Write(key, coatcheck.Header{
		Version: 1, ID: coatcheck.ID{1}, CreatedAt: now.UnixMilli(),
		IdleExpiry: now.Add(24 * time.Hour).UnixMilli(), AbsoluteExpiry: now.Add(48 * time.Hour).UnixMilli(),
	}, []byte(user), []byte{192, 0, 2, 7}, nil, nil)
	if err != nil {
		return err
	}
	_, err = l.s.Create(context.Background(), rec, coatcheck.CreateOptions{Limit: limit, Until: now.Add(10 * time.Second)}, now)
	return err
}

// BenchmarkCreate measures a login of a user who has 1, 10 or 100 sessions, which is as many as the user may have, so that
// each ends the oldest. The store holds equally many sessions each time.
func BenchmarkCreate(b *testing.B) {
	for _, each := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("sessions=%d", each), func(b *testing.B) {
			l := newLogins(b, shardstore.Options{}, million()/each/5, each)
			var rec coatcheck.Record
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if i%10_000 == 0 { // the tombstones go, as they would once a second
					b.StopTimer()
					l.s.Sweep()
					b.StartTimer()
				}
				if err := l.next(&rec, each); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// cpuTime returns the processor time that the process has used, which is meaningful even on a busy machine.
func cpuTime(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkCreateParallel measures logins of 256 callers, with and without a journal.
func BenchmarkCreateParallel(b *testing.B) {
	for _, kept := range []string{"memory", "disk"} {
		b.Run(kept, func(b *testing.B) {
			opt := shardstore.Options{}
			if kept == "disk" {
				opt.Dir = b.TempDir()
			}
			l := newLogins(b, opt, 10_000, 10)
			b.SetParallelism(128)
			b.ReportAllocs()
			b.ResetTimer()
			before := cpuTime(b)
			defer func() { b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op") }()
			b.RunParallel(func(pb *testing.PB) {
				var rec coatcheck.Record
				for pb.Next() {
					if err := l.next(&rec, 10); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
