//go:build !race

package httpcontract

// thinned is by how much large loops are cut under the race detector. Without it they run in full.
const thinned = 1
