//go:build race

package httpcontract

// thinned is the factor by which large loops are cut under the race detector, which makes them slow and finds nothing more in
// the rest.
const thinned = 10
