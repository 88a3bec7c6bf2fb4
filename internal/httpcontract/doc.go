// Package httpcontract is what the suites of the HTTP contract share: internal/middlewaretest, for the session middleware
// of each framework, and server/servertest, for the standalone server. Both know the application under test only by what it
// sends over real TCP sockets.
//
//   - harness.go: Harness, which sends requests and checks what holds for every answer (answer.go)
//   - wire.go: the raw HTTP client; jar.go: a browser's cookie store
//   - store.go: Double, which counts a store's operations and makes them fail; clock.go; logs.go; token.go; race_*.go
//   - devicebrowser.go: a browser with a device's key
//   - recipe.go: the rules about login, me, refresh and logout, which every application of the middleware keeps. The others
//     are in the file of their subject: tokens.go, cookieread.go, cookiesent.go, severalcookies.go,
//     lifetimes.go, rotation.go, devicebound.go and devicelater.go
//
// The rules move the application's clock forward and never wait for it. The clock starts at the real time and stands still
// between the moves, so a store whose server has a clock of its own, like Redis, meets only expiries that this clock has
// not reached yet; no rule waits for a tombstone to expire.
package httpcontract
