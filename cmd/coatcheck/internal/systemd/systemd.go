// Package systemd tells the service manager of a unit with Type=notify what the process does, by the protocol of sd_notify(3): a
// few lines of text in a datagram to the socket that NOTIFY_SOCKET names (decision 41).
package systemd

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Manager is the service manager that started this process. A nil Manager is none: its methods do nothing.
type Manager struct {
	socket string
	watch  time.Duration
}

// Find returns the manager that the environment names, or nil.
func Find(environ []string) *Manager {
	env := make(map[string]string)
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	socket := env["NOTIFY_SOCKET"]
	if !strings.HasPrefix(socket, "/") && !strings.HasPrefix(socket, "@") {
		return nil // none, or an address of another kind, such as vsock:, which virtual machines have
	}
	m := &Manager{socket: socket}
	if pid := env["WATCHDOG_PID"]; pid == "" || pid == strconv.Itoa(os.Getpid()) {
		if usec, err := strconv.ParseInt(env["WATCHDOG_USEC"], 10, 64); err == nil && usec > 0 {
			m.watch = time.Duration(usec) * time.Microsecond
		}
	}
	return m
}

// WatchdogEvery is how often Alive has to be called: twice as often as the manager asks for. 0: never.
func (m *Manager) WatchdogEvery() time.Duration {
	if m == nil {
		return 0
	}
	return m.watch / 2
}

// Ready says that the process serves, after its start or after Reloading.
func (m *Manager) Ready() error { return m.send("READY=1") }

// Reloading says that the process reads its configuration again.
func (m *Manager) Reloading() error { return m.send("RELOADING=1" + monotonic()) }

// Stopping says that the process ends.
func (m *Manager) Stopping() error { return m.send("STOPPING=1") }

// Alive says that the process is not stuck.
func (m *Manager) Alive() error { return m.send("WATCHDOG=1") }

// sendWithin is how long the manager may take to make room for a message.
const sendWithin = time.Second

func (m *Manager) send(message string) error {
	if m == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), sendWithin)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unixgram", m.socket)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // the message is sent, or that failed
	if err := conn.SetDeadline(time.Now().Add(sendWithin)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(message))
	return err
}
