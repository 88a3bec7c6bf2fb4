// Package linear records what clients see of running servers, and checks that a sequential model of the contract could have
// answered the same: logins, reads, refreshes, logouts, revocations and writes of concurrent clients, sent over TCP to one
// node or two. It has tests only. `make verify DURATION=10m` runs them for as long as asked.
package linear
