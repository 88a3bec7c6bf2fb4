// Package coatcheck holds what a session is: the token in the cookie, the record in the store, the session that a handler
// reads and changes, and the commit that brings the changes to the store. It knows no HTTP library and no database.
//
// An application mounts the middleware for its framework (package fibersession for Fiber v2, httpsession for net/http,
// fiber3session for Fiber v3) over a store (package shardstore or redisstore), and its handlers use a Session: Get, Update, Pop,
// and the methods of Session. Elsewhere a Manager lists and ends sessions.
//
// The path of a request: cookie -> Token -> Key and ID -> Store.Load -> Session -> handler -> commit -> cookie. The files, in that
// order:
//
//	token.go      the token in the cookie, and the key, tag, ID and handle that come from it
//	open.go       opening the session of a request by its token, or one of several: whether it lives, whether its record admits
//	              that token, and reuse of an old one
//	request.go    Request: what a middleware does with a request, and what became of it
//	session.go    Session: what a handler may do
//	values.go     the values of a session, and the changes that a request makes to them
//	commit.go     the commit: merging by compare-and-swap, rotation, renewal
//	login.go      the commit of a login: the new session, and the end of what the request carried
//	claims.go     what a login said of its user
//	claimskept.go the form in which a session keeps that, which is the one that a reverse proxy is told
//	clocks.go, bootclock_linux.go, bootclock_other.go: the clocks by which a login can take too long
//	device.go     binding a session to a device's key, and the proofs of that device
//	policy.go     how long sessions live, and how many a user may have
//	manager.go    a store and a policy together: listing and ending sessions
//	watch.go      being told when a session has ended
//	store.go      the contract of a Store
//	record.go     what a store keeps of a session
//	codec.go      the bytes of a record
//	binding.go    the part of a record about the device that its session is bound to
package coatcheck
