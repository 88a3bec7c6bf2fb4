// Package upgradetest holds tests only. They run the servers of this release and of the previous one side by side on one
// Redis, and one after the other on one --data-dir, as a rolling upgrade and a roll-back do.
//
// The tests build the previous release from its commit, so they need git, and a clone that has that commit. "make test-real"
// runs them.
package upgradetest
