// Package adminclient asks the admin listener of a running server.
//
//   - client.go: one request, and what its failure means
//   - sessions.go: the sessions of a user, and those of all users
//   - text.go: texts from outside, made safe for a terminal
package adminclient
