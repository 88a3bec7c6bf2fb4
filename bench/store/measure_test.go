package main

import (
	"slices"
	"testing"
	"time"
)

// A slow one makes those behind it late, and none is left out.
func TestSteadily(t *testing.T) {
	clock := time.Hour
	late, err := steadily(func() time.Duration { clock++; return clock }, 10*time.Microsecond, time.Microsecond, func(i int) error {
		if i == 3 {
			clock += 3500
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range late {
		late[i] = (late[i] + 500) / 1000 // in microseconds
	}
	if want := []int64{0, 0, 0, 4, 3, 2, 1, 0, 0, 0}; !slices.Equal(late, want) {
		t.Errorf("%d, not %d", late, want)
	}
}
