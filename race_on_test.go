//go:build race

package coatcheck_test

const raceEnabled = true
