//go:build race

package shardstore_test

// With the race detector a loop takes ten times as long, and a tenth of its iterations finds the same races.
const raceDetector = true
