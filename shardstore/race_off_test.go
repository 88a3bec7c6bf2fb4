//go:build !race

package shardstore_test

const raceDetector = false
