// Package httpcontract is what the suites of the HTTP contract share: internal/middlewaretest, for the session middleware of
// each framework, and server/servertest, for the standalone server. Both observe the program under test only through real TCP
// sockets.
//
//   - harness.go: Harness, which sends requests and checks what holds for every answer (answer.go)
//   - wire.go: the raw HTTP client; jar.go: a browser's cookie store
//   - store.go: Double, which counts a store's operations and makes them fail; clock.go; logs.go; token.go
//   - recipe.go: the rules about login, me, refresh and logout, which every application of the middleware keeps
//
// The rules move the application's clock forward and never wait for it. The clock starts at the real time and stands still between
// the moves, so a store whose server has a clock of its own, like Redis, meets only expiries that this clock has not reached yet;
// no rule waits for a tombstone to go.
package httpcontract
