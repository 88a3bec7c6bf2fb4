//go:build !race

package httpcontract

// thinned is the factor by which large loops are cut under the race detector. Without it they run in full.
const thinned = 1
