// Package oidc logs users in at an OpenID Connect provider, and reads the provider's reports that they have signed out. It knows no
// sessions and no HTTP server: package server gives it what a request carries, and begins and ends the sessions.
//
//	provider.go  New, the configuration, and the provider's discovery document
//	client.go    the HTTP client, which bounds what a provider may answer
//	keys.go      the provider's keys
//	attempt.go   a login that is on its way: a cookie of its own, encrypted; statekeys.go has the keys
//	login.go     the authorization code flow: Begin, then Answer and its Identity
//	token.go     what is checked of an ID token
//	userinfo.go  the request for userinfo, and what is checked of it
//	identity.go  which claims are kept, and who may log in
//	logout.go    logout tokens
//	index.go     which sessions began with which session of the provider
//	examine.go   what can be seen of a provider without a person, for doctor
//	failure.go   the ways in which a login fails
package oidc
