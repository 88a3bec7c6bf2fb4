package login_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/server/login"
)

// BenchmarkRefusal tells whether a refusal's time depends on its reason: the medians by reason, in turn, at the real cost.
// "spread-%" is how far they lie apart. Run it with -benchtime 4000x on a quiet machine; AUT-02 wants less than 5.
func BenchmarkRefusal(b *testing.B) {
	for _, file := range []string{"argon2id", "argon2id and bcrypt"} {
		b.Run(file, func(b *testing.B) { benchmarkRefusal(b, file != "argon2id") })
	}
}

func benchmarkRefusal(b *testing.B, mixed bool) {
	hash, err := login.HashPassword([]byte("right"))
	require.NoError(b, err)
	lines := "known:" + hash + "\ndisabled:!" + hash + "\nnone:\n"
	reasons := []string{"unknown", "known", "disabled", "none"}
	if mixed {
		lines += "bcrypt:" + bcryptHash(b, "right")
		reasons = append(reasons, "bcrypt")
	}
	users, err := login.NewUsers(writeFile(b, lines), login.UsersOptions{})
	require.NoError(b, err)
	took := make([][]time.Duration, len(reasons))
	for i := 0; b.Loop(); i++ {
		k := i % len(reasons)
		began := time.Now()
		_, err := users.Check(b.Context(), &login.Attempt{UserID: reasons[k], Password: []byte(fmt.Sprint("wrong", i))})
		took[k] = append(took[k], time.Since(began))
		require.ErrorIs(b, err, login.ErrRefused)
	}
	least, most := time.Hour, time.Duration(0)
	for k, times := range took {
		if len(times) == 0 {
			return
		}
		slices.Sort(times)
		median := times[len(times)/2]
		b.ReportMetric(float64(median.Microseconds())/1000, reasons[k]+"-ms")
		least, most = min(least, median), max(most, median)
	}
	b.ReportMetric(100*float64(most-least)/float64(least), "spread-%")
}
