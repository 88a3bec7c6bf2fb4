// Package conn is the listener and its connections: limits, deadlines, draining.
package conn
