//go:build race

package server_test

// The race detector makes sync.Pool drop objects at random, so that what a request allocates says nothing.
const raceDetector = true
