// Package server is coatcheck over HTTP: the session middleware for any Fiber application, and the standalone auth API
// with its admin listener. It knows stores only by the coatcheck.Store contract.
//
// A request's way: the cookie header is scanned for tokens (cookie.go), the session is opened (sessions.go), the handler
// runs (auth.go, devices.go, verify.go), what it asked for is committed, and the response gets its Set-Cookie.
package server
