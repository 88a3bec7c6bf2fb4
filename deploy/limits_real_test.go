//go:build real

package deploy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// kept is a connection to coatcheck that stays open between requests, as that of a proxy does.
type kept struct {
	net.Conn
	in *bufio.Reader
}

// keep opens one and asks over it.
func (s *site) keep() (k kept, status int, err error) {
	conn, err := new(net.Dialer).DialContext(s.Context(), "tcp", s.listens())
	if err != nil {
		return k, 0, err
	}
	s.Cleanup(func() { _ = conn.Close() })
	k = kept{conn, bufio.NewReader(conn)}
	status, err = k.ask("GET", "/auth/me")
	return k, status, err
}

func (k kept) ask(method, path string) (status int, err error) {
	if err := k.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintf(k, "%s %s HTTP/1.1\r\nHost: x\r\n\r\n", method, path); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(k.in, &http.Request{Method: method}) //nolint:bodyclose // the connection is closed at the test's end
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// A proxy's connections to coatcheck fill --max-conns and are idle: a new connection is served in place of the longest idle one, again
// and again, and no request through the proxy fails meanwhile.
func TestIdleConnectionsAtTheLimit(t *testing.T) {
	const limit = 12
	samples := maps.Clone(others)
	maps.Copy(samples, nginx)
	for name, how := range samples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, how, variant{flags: []string{fmt.Sprint("--max-conns=", limit)}})
			session := s.login("user-42")
			// At the same time, so that the proxy needs that many connections; HAProxy's own check and the test need some, too.
			var asking sync.WaitGroup
			for range limit / 2 {
				asking.Go(func() { s.send("GET", "/hello", session) })
			}
			asking.Wait()

			done := make(chan struct{})
			go func() {
				defer close(done)
				for range 20 * limit {
					_, status, err := s.keep()
					if !assert.NoError(t, err, "a new connection is not served") {
						return
					}
					assert.Equal(t, 200, status)
				}
			}()
			t.Cleanup(func() { <-done }) // it asserts, also where a request through the proxy has failed
			for asked, over := 0, false; !over || asked < 100; asked++ {
				resp, err := s.try("GET", "/hello", session) //nolint:bodyclose // read and closed by try
				require.NoError(t, err, "through the proxy")
				require.Equal(t, 200, resp.StatusCode, "through the proxy, request %d", asked)
				select {
				case <-done:
					over = true
				default:
				}
			}
			assert.Equal(t, 401, s.status("GET", "/hello", "X: y"))
		})
	}
}

// C1: a request that is sent over a kept connection within 1.5 ms of the idle timeout is answered.
func TestNoResetAtTheIdleDeadline(t *testing.T) {
	const tries, atOnce, idle = 500, 20, time.Second
	s := open(t, nginx["nginx"], variant{flags: []string{"--idle-timeout=" + idle.String()}})
	var answered, closed atomic.Int32
	for range tries / atOnce {
		var asking sync.WaitGroup
		for range atOnce {
			asking.Go(func() {
				asked := time.Now() // the server's time begins later, with its answer
				k, status, err := s.keep()
				if !assert.NoError(t, err) || !assert.Equal(t, 200, status) {
					return
				}
				time.Sleep(idle - 1500*time.Microsecond + rand.N(3*time.Millisecond))
				switch status, err = k.ask("POST", "/auth/logout"); {
				case err == nil && status == 204:
					answered.Add(1)
				case time.Since(asked) >= idle+100*time.Millisecond && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
					closed.Add(1) // this machine was so late that the server had closed
				default:
					assert.Fail(t, "neither answered nor closed", "%d %v", status, err)
				}
			})
		}
		asking.Wait()
	}
	assert.Positive(t, answered.Load())
	t.Logf("%d answered, %d found the connection closed", answered.Load(), closed.Load())
}
