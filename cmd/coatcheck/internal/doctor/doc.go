// Package doctor checks a configuration, and the server that runs with it, for common mistakes.
//
//   - doctor.go: Examine, which makes all checks, and Report, their results
//   - cookie.go: whether browsers keep the cookie and send it; whether the server knows its clients behind proxies
//   - files.go: the login mode, who may read files that hold secrets, the certificate, the folders of Unix sockets and of the memory store
//   - live.go: the running server, its descriptors, and Redis
//   - public.go: the public address, as a browser reaches it; dbsc.go: whether a browser can bind a session there
//   - provider.go: the provider of login mode oidc
//   - limits_unix.go, limits_other.go: how many descriptors a process may have
//   - space_statfs.go, space_other.go: how much room the disk of a folder has
package doctor
