package main

import (
	"fmt"
	"math"
	"slices"

	"github.com/coatcheck/coatcheck/bench/internal/report"
)

// trend is how a series changes in its second half. In the first half caches fill, and the number of sessions rises until as many
// end as begin.
type trend struct {
	// Median of the second half.
	Median float64
	// Growth is the Theil–Sen slope, the median of the slopes between all pairs of samples, times the length of the second
	// half: how much the series grew in it. Up to 29 % of the samples may be outliers without much effect on it.
	Growth float64
	// AtLeast is the lower end of the 99 % confidence interval of Growth (Sen 1968, by Kendall's variance).
	AtLeast float64
}

// allowance is how much a series may grow in the second half of a run: the greater of both.
type allowance struct {
	share float64 // of its median
	floor float64 // in its unit
}

func (a allowance) of(t trend) float64 { return max(a.share*t.Median, a.floor) }

// grows is the verdict: the series grew by more than is allowed, and chance does not explain the growth.
func (t trend) grows(a allowance) bool { return t.Growth > a.of(t) && t.AtLeast > 0 }

// trendOf looks at samples that were taken at these times, in seconds, in order.
func trendOf(at, values []float64) (trend, error) {
	if len(at) != len(values) || len(at) < minSamples {
		return trend{}, fmt.Errorf("%d samples at %d times: a trend needs %d", len(values), len(at), minSamples)
	}
	at, values = at[len(at)/2:], values[len(values)/2:]
	length := at[len(at)-1] - at[0]
	n := len(at)
	slopes := make([]float64, 0, n*(n-1)/2)
	for i := range at {
		for j := range i {
			if at[i] > at[j] {
				slopes = append(slopes, (values[i]-values[j])/(at[i]-at[j]))
			}
		}
	}
	if len(slopes) == 0 {
		return trend{}, fmt.Errorf("all samples were taken at once")
	}
	slices.Sort(slopes)
	const z = 2.576 // 99 %, two-sided
	spread := z * math.Sqrt(float64(n)*float64(n-1)*float64(2*n+5)/18)
	low := int((float64(len(slopes)) - spread) / 2)
	return trend{
		Median:  report.Median(values),
		Growth:  report.Median(slopes) * length,
		AtLeast: slopes[min(max(low, 0), len(slopes)-1)] * length,
	}, nil
}
