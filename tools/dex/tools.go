// Package tools pins dex, a real OpenID Connect provider, for the tests with tag real. No release has back-channel logout yet, so it
// is the main branch of August 2026.
package tools

import _ "github.com/dexidp/dex/cmd/dex" // a program, which go build makes
