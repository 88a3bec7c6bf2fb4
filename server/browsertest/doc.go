// Package browsertest holds tests that need a real browser: the devices page as people meet it, and what a browser's cookie store
// and its same-site rules make of the API. It is a package of its own because one Chromium serves all of it, and because nothing
// else should fail where there is none.
package browsertest
