package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/coatcheck/coatcheck/bench/internal/process"
)

// serve starts coatcheck on free ports and returns its two addresses.
func serve(ctx context.Context, s settings, store string) (p *process.Process, url, admin string, err error) {
	args := append([]string{
		s.server, "serve", "--dev", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-level=warn", "--store=" + store,
		// A machine that pauses for a moment must not look like an outage of Redis.
		"--redis-timeout=2s",
	}, rules.flags()...)
	p, err = process.Start(process.Command{Args: args, Log: filepath.Join(s.out, s.store+"-server.log")})
	if err != nil {
		return nil, "", "", err
	}
	found, err := p.AwaitLog(ctx, regexp.MustCompile(`listens on (http://\S+)(?s:.*)admin API on (http://\S+)`))
	if err != nil {
		return nil, "", "", errors.Join(err, p.Stop())
	}
	return p, found[1], found[2], nil
}

// redis is a redis-server that keeps its data when it is started again.
type redis struct {
	*process.Process
	dir, log, address string
}

func startRedis(ctx context.Context, s settings) (*redis, error) {
	dir, err := os.MkdirTemp("", "soak-redis-")
	if err != nil {
		return nil, err
	}
	address, err := process.FreeAddress()
	if err != nil {
		return nil, err
	}
	r := &redis{dir: dir, log: filepath.Join(s.out, "redis.log"), address: address}
	return r, r.start(ctx)
}

func (r *redis) start(ctx context.Context) (err error) {
	r.Process, err = process.StartRedis(ctx, r.address, r.log, nil, "--dir", r.dir, "--appendonly", "yes", "--appendfsync", "no", "--save", "")
	return err
}

// count is how many keys Redis has beside that of the write which a running node tries every two seconds. The tag
// of that key is random.
const count = `EVAL "return redis.call('DBSIZE') - #redis.call('KEYS', 'coatcheck:{*}:r:probe')" 0`

// keys asks Redis how many keys it has of sessions.
func (r *redis) keys(ctx context.Context) (float64, error) {
	reply, err := process.AskRedis(ctx, r.address, count)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimPrefix(reply, ":"), 64)
}
