// Package server is the standalone auth API over a store: login, me, refresh, logout, verify for reverse proxies, the user's
// own sessions, and an admin listener. Package internal/fasthttpsession handles sessions; package login decides who may log in.
//
//	app.go           New, the routes, and the code around every handler
//	config.go        the configuration
//	serve.go         listening and stopping; the connections are internal/conn's
//	limits.go        requests that are refused, or answered, before they were read
//	sessions.go      the session around a handler, and the client of a request
//	auth.go          login, me, refresh, logout
//	json.go          the body of a login; JSON that is written on the hot path
//	verify.go        verify for reverse proxies
//	userinfo.go      what a login said of the user
//	loginpage.go     where verify sends browsers to log in, and where they return to
//	signinpage.go    our own page to log in on
//	watch.go         a stream that tells when the session ends
//	provider.go      login at an OpenID Connect provider, and the logouts that it reports;
//	                 providerindex.go which of its sessions ours began with, and what of that a restart must not forget;
//	                 notes.go what a login notes of itself in its session
//	devices.go       the user's own sessions, and how often they are ended; devicespage.go and page/ are the page for them
//	admin.go         the admin listener; adminsessions.go lists and ends a user's sessions; listall.go lists those of all users;
//	                 ready.go whether it can serve; pprof.go its profiles
//	problem.go       every error answer, and the one place where an error becomes an answer
//	crosssite.go     refusing what another site's page sends; cors.go admits origins
//	headers.go       the headers of every response
//	audit.go         security events; access.go the access log
//	requests.go      counting requests; metrics.go counts sessions and logins, storemetrics.go the store's operations
//	storeobserver.go observing a store's operations
//	trace.go         the hook for traces
//	openapi.go       the OpenAPI document
package server
