package process

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"time"
)

// StartRedis starts a Redis server at the address, with more arguments than those that say where it listens, and waits until
// it accepts connections.
func StartRedis(ctx context.Context, address, log string, cpus []int, args ...string) (*Process, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, fmt.Errorf("redis-server is not installed: make tools installs it where apt-get is")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	p, err := Start(Command{
		Args: append([]string{"redis-server", "--bind", host, "--port", port, "--daemonize", "no"}, args...),
		CPUs: cpus, Log: log,
	})
	if err != nil {
		return nil, err
	}
	// A Redis that still reads its data from disk accepts connections, and answers -LOADING.
	err = p.AwaitListener(ctx, address)
	for deadline := time.Now().Add(Patience); err == nil; time.Sleep(5 * time.Millisecond) {
		var reply string
		if reply, err = AskRedis(ctx, address, "PING"); err == nil && reply == "+PONG" {
			return p, nil
		}
		if err == nil && time.Now().After(deadline) {
			err = fmt.Errorf("redis-server answers %s", reply)
		}
	}
	_ = p.Stop() // the first error says more
	return nil, err
}

// AskRedis sends a command without arguments to the Redis server and returns the one line of its reply.
func AskRedis(ctx context.Context, address, command string) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close() //nolint:errcheck // the reply has been read
	if err := conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(line), err
}
