// Package upgradetest holds tests only. They run the servers of this release and of the one before it beside each other on
// one Redis, and one after the other on one --data-dir, as a rolling upgrade and a roll-back do.
//
// They build the release before from its commit, so they need git, and a clone that has that commit. "make test-real" runs
// them.
package upgradetest
