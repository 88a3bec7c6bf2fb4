//go:build !race

package httpcontract

// thinned is the divisor for large loops. Without the race detector they run in full.
const thinned = 1
