// Package dbsc has the formats of Device Bound Session Credentials (W3C WebAppSec draft): what a browser that holds a device's
// key sends, and what it is told. It knows no HTTP library. The session itself, and the rule when a token is too old, are
// package coatcheck's; package middleware turns the two together into answers.
//
//	proof.go     the proofs of a device: compact JWTs, ES256 or RS256
//	publickey.go the public key in a proof, as a JWK
//	headers.go   names, challenges, the values of headers, and the instructions for the browser
//	checks.go    how many signatures are checked at a time, and how many proofs of one client may fail
package dbsc
