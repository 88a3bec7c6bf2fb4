// Package daemon runs the server as a process: it opens the store and the listeners, re-reads files on HUP, and stops on TERM and INT.
//
//   - daemon.go: Run, the life of the process from its start to its end
//   - signals.go: which signals it acts on
//   - listen.go: the two listeners; unixsocket.go, activation.go: Unix sockets, and sockets that systemd hands over;
//     bind_linux.go, bind_other.go: a Unix socket that is open to nobody yet
//   - descriptors.go: how many connections the descriptors allow
//   - store.go: which store the configuration names, and how logins are throttled with it
//   - reload.go: what a HUP does, and what is tried again after one; rereads.go shows what became of it
//   - log.go: the format of the log
//   - announce.go: what is printed at the start
//   - metrics.go: the metrics of the store and of the log
package daemon
