//go:build race

package httpcontract

// thinned is the divisor for large loops. The race detector makes them slow and finds nothing more in the remaining
// iterations.
const thinned = 10
