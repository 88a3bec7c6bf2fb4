package main

import (
	"errors"
	"math"
	"slices"

	"golang.org/x/perf/benchmath"
)

// verdict is how two samples compare.
type verdict struct {
	was, is float64 // medians
	p       float64 // of the Mann-Whitney U test
}

// judge compares two samples. It is benchstat's comparison: it assumes nothing about the distribution.
func judge(was, is []float64) (verdict, error) {
	if len(was) == 0 || len(is) == 0 {
		return verdict{}, errors.New("nothing was measured")
	}
	a := benchmath.NewSample(slices.Clone(was), &benchmath.DefaultThresholds)
	b := benchmath.NewSample(slices.Clone(is), &benchmath.DefaultThresholds)
	return verdict{
		was: benchmath.AssumeNothing.Summary(a, 0.95).Center,
		is:  benchmath.AssumeNothing.Summary(b, 0.95).Center,
		p:   benchmath.AssumeNothing.Compare(a, b).P,
	}, nil
}

func (v verdict) delta() float64 { return v.is/v.was - 1 }

// same reports whether the samples may be of one distribution, by the limits of AUT-02.
func (v verdict) same() bool { return math.Abs(v.delta()) < maxMedians && v.p > minP }
