// Package coatcheck holds what a session is: the token in the cookie, the record in the store, the session that a handler
// reads and changes, and the commit that brings the changes home. It knows no HTTP and no database: package server puts it
// behind a Fiber application, packages shardstore and redisstore keep its records.
package coatcheck
