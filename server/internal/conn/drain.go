package conn

import (
	"context"
	"errors"
	"time"
)

const (
	// noticePeriod is how long clients are answered with "Connection: close" before new connections are refused, so that clients
	// that are sending requests learn that the server stops.
	noticePeriod = 250 * time.Millisecond
	// handshakeTime is how long a TCP handshake that has begun may take before its listener is closed.
	handshakeTime = 50 * time.Millisecond
	// minNewAge is the age at which a new connection, over which nothing was received, is closed.
	minNewAge = time.Second
	// idleCheckEvery is the interval at which connections are checked for having become idle.
	idleCheckEvery = 10 * time.Millisecond
)

// Drain stops the servers, the last of them when the others have stopped. From its call on requests should be answered with
// "Connection: close". After a moment no new connections are accepted; requests in flight are answered, idle connections
// closed. When ctx ends, the remaining connections are closed, and Drain returns its error.
func Drain(ctx context.Context, servers ...*Server) error {
	sleep(ctx, shortened(ctx, noticePeriod))
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.drain(ctx))
	}
	return errors.Join(errs...)
}

// drain leaves no work to fasthttp's own Shutdown unless ctx ends: Shutdown closes an idle connection even if its next
// request is in the receive buffer, and waits for a new connection as for a request in flight.
func (s *Server) drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	listeners := s.listeners
	s.mu.Unlock()
	stopAccepting(ctx, listeners)
	minAge := shortened(ctx, minNewAge)
	for s.closeIdle(minAge) > 0 && ctx.Err() == nil {
		sleep(ctx, idleCheckEvery)
	}
	s.abort.Store(true)
	err := s.http.ShutdownWithContext(ctx)
	if s.Connections() == 0 && errors.Is(err, ctx.Err()) { // fasthttp, which counts later, looks only every 100 ms
		return nil
	}
	return err
}

// stopAccepting closes the listeners, and returns when fasthttp has accepted what was in their backlogs.
func stopAccepting(ctx context.Context, listeners []*listener) {
	dropping := false
	for _, l := range listeners {
		dropping = dropSYNs(l.Listener) || dropping
	}
	if dropping {
		sleep(ctx, shortened(ctx, handshakeTime))
	}
	for _, l := range listeners {
		_ = l.Close() // fasthttp closes it again and returns its error
		select {
		case <-l.done:
			for _, conn := range l.backlog { // Accept had failed before
				_ = conn.Close()
			}
			l.backlog = nil
		case <-ctx.Done():
		}
	}
}

// closeIdle closes the connections that are idle, or new and at least minAge old, and returns how many are open.
func (s *Server) closeIdle(minAge time.Duration) (open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		c.closeIfIdle(minAge)
	}
	return len(s.open)
}

// shortened returns d, or a quarter of the time until ctx ends if that is less.
func shortened(ctx context.Context, d time.Duration) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return min(d, time.Until(end)/4)
	}
	return d
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
