package redisstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"
)

// errReplicas means that the write stands on the primary, but too few replicas have it yet.
var errReplicas = errors.New("too few replicas have acknowledged the write")

// sendDurable sends a command and WAIT, one behind the other on a connection of their own: WAIT concerns the writes of its
// connection, and blocks it. Then, where only the script knows what it has changed, sendDurable passes a barrier on the
// connection that carries the invalidations, as sendBarred does.
//
// The command must write whenever its answer is acknowledged, because otherwise WAIT would wait for nothing.
func (s *Store) sendDurable(ctx context.Context, op operation, cmd func() rueidis.Completed) ([]rueidis.RedisMessage, error) {
	defer s.stats.roundTrip(time.Now())
	results := s.sendAlone(context.WithValue(ctx, aloneKey{}, true), cmd, func() rueidis.Completed {
		return s.client.B().Wait().Numreplicas(int64(s.wait)).Timeout(s.waitLimit(ctx)).Build().Pin()
	})
	reply, err := parts(results[0])
	if err != nil {
		return nil, err
	}
	if s.cache != nil && op.touches == nil && s.client.Do(ctx, s.barrier(op.keys[0])).NonRedisError() != nil {
		s.cache.flush()
	}
	reached, err := results[1].AsInt64()
	if err != nil {
		return nil, err
	}
	if reached < int64(s.wait) {
		return nil, fmt.Errorf("%w: %d of %d", errReplicas, reached, s.wait)
	}
	return reply, nil
}

// waitLimit is how long WAIT may take, in milliseconds: the time that is left, less some for the barrier and for Redis,
// which looks at its clock only ten times a second when it is idle. It is never zero, which would mean no limit.
func (s *Store) waitLimit(ctx context.Context) int64 {
	left := s.timeout
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	return max(1, left.Milliseconds()/2, (left - 120*time.Millisecond).Milliseconds())
}

// sendAlone sends commands over a connection that nothing else uses meanwhile.
//
// In a Cluster rueidis would follow a redirection of the first command and leave the WAIT on the old node, where it proves
// nothing. So a dedicated client is used there, which follows no redirections, and sendAlone follows them itself.
func (s *Store) sendAlone(ctx context.Context, first, second func() rueidis.Completed) []rueidis.RedisResult {
	if s.client.Mode() != rueidis.ClientModeCluster {
		return s.client.DoMulti(ctx, first(), second())
	}
	dedicated, release := s.client.Dedicate()
	results := dedicated.DoMulti(ctx, first(), second())
	release()
	for range 3 {
		re, ok := rueidis.IsRedisErr(results[0].Error())
		if !ok {
			return results
		}
		moved, isMoved := re.IsMoved()
		ask, isAsk := re.IsAsk()
		node := s.client.Nodes()[moved+ask]
		switch {
		case node == nil:
			return results
		case isMoved:
			results = node.DoMulti(ctx, first(), second())
		case isAsk:
			results = node.DoMulti(ctx, s.client.B().Asking().Build().Pin(), first(), second())[1:]
		}
	}
	return results
}
