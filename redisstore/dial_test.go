package redisstore_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/redisstore"
)

// A dial that no caller waits for any more is given up with the other connections to its address, whether it is under way or has made
// its connection: that one would lead to the server that the others have left.
func TestLateDialIsClosedWithTheRest(t *testing.T) {
	const addr = "redis:6379"
	for name, leave := range map[string]func(redisstore.Dialer){
		"all":        redisstore.Dialer.CloseAll,
		"an address": func(d redisstore.Dialer) { d.Forbid([]string{addr}); d.Forbid(nil) },
	} {
		for when, madeFirst := range map[string]bool{"made": true, "under way": false} {
			t.Run(name+", "+when, func(t *testing.T) {
				dialed, proceed := make(chan chan bool, 2), make(chan struct{})
				d := redisstore.NewDialer(func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
					client, server := net.Pipe()
					closed := make(chan bool)
					dialed <- closed
					<-proceed
					go func() {
						defer close(closed)
						_, _ = server.Read(make([]byte, 16))
						_, _ = io.WriteString(server, "+PONG\r\n")
						_, _ = io.Copy(io.Discard, server)
					}()
					return client, nil
				})
				defer d.Close()
				gone, cancel := context.WithCancel(t.Context())
				cancel()
				_, err := d.Dial(gone, addr)
				require.Error(t, err, "its caller does not wait")
				first := <-dialed
				if madeFirst {
					close(proceed)
				}
				leave(d)
				if !madeFirst {
					close(proceed)
				}
				conn, err := d.Dial(t.Context(), addr)
				require.NoError(t, err)
				require.Len(t, dialed, 1, "it has a connection of its own")
				select {
				case <-first: // its connection is closed
				case <-time.After(time.Minute):
					t.Error("its connection stays open")
				}
				assert.NoError(t, conn.Close())
			})
		}
	}
}
