package login_test

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quickly is a tenth of n under the race detector, which needs fewer repetitions; a run without it does all n.
func quickly(n int) int {
	if raceDetector {
		return n / 10
	}
	return n
}
