//go:build !race

package login_test

const raceDetector = false
