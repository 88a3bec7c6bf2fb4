package redisstore

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/coatcheck/coatcheck"
)

// Finding is the result of one check of Redis' set-up.
type Finding struct {
	// Check is what was looked at: cache, encryption, password, eviction, persistence, replicas, clock or
	// commands.
	Check string
	Level Level
	// Addr is the server that the finding is about; if it is empty, all of them.
	Addr string
	// Text describes the finding, and unless that is Fine, what follows from it and what to do.
	Text string
	// Err is the error that Redis returned, nil if there was none.
	Err error

	evicts bool // Redis may evict keys
}

// Level is how serious a Finding is.
type Level int

const (
	// Fine means that no attention is needed.
	Fine Level = iota
	// Warning means that the store works, but may lose sessions or show them to others.
	Warning
	// Problem means that something does not work, or not as the options ask for.
	Problem
)

// skewToWarn is how far Redis' clock may be off. That clock expires keys: if it is ahead, sessions and tombstones end
// early. skewTooMuch is the rotation grace's default: with so much skew a tombstone has gone before any request can meet
// it.
const (
	skewToWarn  = time.Second
	skewTooMuch = 10 * time.Second
)

// Inspect connects to Redis as New does, and returns all findings, good and bad. Beside those that New warns of, they say
// by how much the clocks differ, and each command that the user may not run. Inspect writes to keys of a made-up session,
// which Redis forgets within seconds. It returns coatcheck.ErrUnavailable when Redis cannot be reached, and all mistakes in
// the options.
func Inspect(ctx context.Context, opt Options) ([]Finding, error) {
	s, found, err := newStore(ctx, opt)
	if err != nil {
		return nil, err
	}
	found = append(found, s.tryCommands(ctx))
	return found, s.Close()
}

func (f Finding) warn(log *slog.Logger) {
	if f.Level == Fine {
		return
	}
	var attrs []any
	if f.Addr != "" {
		attrs = append(attrs, "addr", f.Addr)
	}
	if f.Err != nil {
		attrs = append(attrs, "err", f.Err)
	}
	log.Warn("redisstore: "+f.Text, attrs...)
}

// inspect looks for a set-up that will lose sessions or show them to others. Such a set-up does not keep a store from
// starting.
func (s *Store) inspect(ctx context.Context, conn rueidis.ClientOption, allowEviction bool) []Finding {
	ctx, cancel := context.WithTimeout(ctx, maxTimeout)
	defer cancel()
	var found []Finding
	switch {
	case s.noCache != nil:
		found = append(found, Finding{
			"cache", Warning, "",
			"this Redis offers no client-side caching (RESP3 and CLIENT TRACKING): each request will ask it", s.noCache, false,
		})
	case s.cache != nil:
		found = append(found, Finding{"cache", Fine, "", "sessions in use are answered from memory", nil, false})
	}
	found = append(found, inspectWay(conn)...)
	for addr, node := range s.client.Nodes() {
		found = append(found, s.inspectNode(ctx, addr, node, allowEviction)...)
	}
	return found
}

// inspectWay checks the encryption and the authentication of the connection to Redis.
func inspectWay(conn rueidis.ClientOption) []Finding {
	far := ""
	for _, addr := range conn.InitAddress {
		if host, _, err := net.SplitHostPort(addr); err == nil && !isLoopback(host) {
			far = addr
		}
	}
	found := []Finding{
		{"encryption", Fine, far, "nobody on the way to Redis can listen", nil, false},
		{"password", Fine, far, "Redis asks who comes, or only this machine reaches it", nil, false},
	}
	if far != "" && conn.TLSConfig == nil {
		found[0] = Finding{"encryption", Warning, far, "the way to Redis is not encrypted; use rediss://", nil, false}
	}
	if far != "" && conn.Password == "" && (conn.TLSConfig == nil || len(conn.TLSConfig.Certificates) == 0) {
		found[1] = Finding{"password", Warning, far, "Redis is used without a password", nil, false}
	}
	return found
}

// inspectNode asks by INFO, because CONFIG is a command that no application should be allowed.
func (s *Store) inspectNode(ctx context.Context, addr string, node rueidis.Client, allowEviction bool) []Finding {
	found := []Finding{eviction(ctx, addr, node, allowEviction), persistence(ctx, addr, node), clock(ctx, addr, node)}
	if s.wait == 0 {
		return found
	}
	replication, err := info(ctx, node, "replication")
	have, _ := strconv.Atoi(replication["connected_slaves"])
	if err == nil && replication["role"] == "master" {
		f := Finding{"replicas", Fine, addr, "Redis has the replicas that are to be waited for", nil, false}
		if have < s.wait {
			f.Level = Problem
			f.Text = fmt.Sprintf("Redis has fewer replicas than are to be waited for, %d of %d: logouts, revocations and refreshes will fail", have, s.wait)
		}
		found = append(found, f)
	}
	return found
}

// eviction looks whether Redis may evict keys. A record that is evicted logs its user out. An index that is evicted, and not
// its records, hides sessions from every revocation, which is worse.
func eviction(ctx context.Context, addr string, node rueidis.Client, allowed bool) Finding {
	memory, err := info(ctx, node, "memory")
	policy := memory["maxmemory_policy"]
	f := Finding{Check: "eviction", Level: Warning, Addr: addr, Err: err}
	switch {
	case err != nil || policy == "":
		f.Text = "cannot find out whether Redis may evict sessions, and what finds a user's sessions to revoke them; INFO memory was refused"
	case policy == "noeviction":
		f.Level, f.Text = Fine, "Redis evicts no session"
	case memory["maxmemory"] == "0": // no limit: Redis takes memory until the system has no more
		f.Text = "Redis may evict sessions once it has a maxmemory; set maxmemory-policy noeviction, it is " + policy
	default:
		f.evicts = true
		f.Text = "Redis may evict sessions, which logs people out, and what says which sessions a user has, which keeps revocation " +
			"and the limit from finding them; set maxmemory-policy noeviction, it is " + policy
		if !allowed {
			f.Level = Problem
		}
	}
	return f
}

// persistence looks whether Redis has an append-only file. Without one a crash takes Redis back to its last dump, and sessions that
// were ended since are live again. Only CONFIG tells whether there are dumps, and how often the file is synced. A Redis that says
// nothing of its file is one of a provider, who keeps the data in ways of its own.
func persistence(ctx context.Context, addr string, node rueidis.Client) Finding {
	said, err := info(ctx, node, "persistence")
	f := Finding{Check: "persistence", Addr: addr}
	switch {
	case err != nil || said["aof_enabled"] == "":
		f.Text = "Redis does not say whether it keeps an append-only file; without one a crash brings ended sessions back, or logs everybody out"
	case said["aof_enabled"] == "0":
		f.Level = Warning
		f.Text = "Redis keeps no append-only file: after a crash it goes back to its last dump, also one that a synchronization of a replica has " +
			"left, where sessions that were ended since are live, or it has no dump and everybody is logged out; set appendonly yes"
	default:
		f.Text = "Redis keeps an append-only file; unless appendfsync is always, a crash may undo the last second or two, logouts included"
	}
	return f
}

// clock compares the clocks. The time that the round trip takes does not count as skew.
func clock(ctx context.Context, addr string, node rueidis.Client) Finding {
	before := time.Now()
	now, err := node.Do(ctx, node.B().Time().Build().Pin()).AsStrSlice()
	after := time.Now()
	if err != nil || len(now) != 2 {
		return Finding{"clock", Warning, addr, "cannot find out whether Redis' clock is right; TIME was refused", quoted(err), false}
	}
	seconds, _ := strconv.ParseInt(now[0], 10, 64)
	micros, _ := strconv.ParseInt(now[1], 10, 64)
	skew := skewOf(before, time.Unix(seconds, micros*1000), after)
	f := Finding{"clock", Fine, addr, "Redis' clock and this machine's agree", nil, false}
	switch off := skew.Abs(); {
	case off < skewToWarn:
		return f
	case off >= skewTooMuch:
		f.Level = Problem
	default:
		f.Level = Warning
	}
	f.Text = fmt.Sprintf("Redis' clock is %v ahead: sessions end early, and what is left of ended ones goes too soon; synchronize the clocks", skew.Round(time.Second/10))
	if skew < 0 {
		f.Text = fmt.Sprintf("Redis' clock is %v behind: sessions that expired stay in its memory; synchronize the clocks", -skew.Round(time.Second/10))
	}
	return f
}

// clockEvery is how often a store that is pinged looks at Redis' clock again: they drift, and are set, long after the start.
const clockEvery = 10 * time.Minute

// watchClock warns of a clock that has gone wrong. It measures its interval by the store's age, which setting a clock does
// not change.
func (s *Store) watchClock(ctx context.Context) {
	last, age := s.clockAge.Load(), time.Since(s.born)
	if age-time.Duration(last) < clockEvery || !s.clockAge.CompareAndSwap(last, int64(age)) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	for addr, node := range s.client.Nodes() {
		clock(ctx, addr, node).warn(s.log)
	}
}

// skewOf returns how far ahead a clock was if it showed the time there at some moment between before and after.
func skewOf(before, there, after time.Time) time.Duration {
	switch {
	case there.After(after):
		return there.Sub(after)
	case there.Before(before):
		return there.Sub(before)
	default:
		return 0
	}
}

// tryCommands sends each command that the store may need, by itself, so that all refused ones are reported at once.
func (s *Store) tryCommands(ctx context.Context) Finding {
	ctx, cancel := context.WithTimeout(ctx, maxTimeout)
	defer cancel()
	key, index := s.receiptKey(coatcheck.TagOf("")), s.receiptKey(coatcheck.TagOf(""))
	probe := newScript("return 1")
	// Nothing here leaves a key without an expiry, whatever else is refused: ZADD XX adds nothing.
	commands := [][]string{
		{"set", key, "1", "px", "5000"},
		{"get", key},
		{"mget", key},
		{"exists", key},
		{"pexpire", key, "5000"},
		{"pexpireat", key, strconv.FormatInt(time.Now().Add(5*time.Second).UnixMilli(), 10)},
		{"eval", probe.text, "1", key},
		{"evalsha", probe.sha, "1", key},
		{"del", key},
		{"zadd", index, "xx", "1", "m"},
		{"zrem", index, "m"},
		{"zcount", index, "-inf", "+inf"},
		{"zrange", index, "0", "-1"},
		{"zrangebyscore", index, "-inf", "+inf"},
		{"zremrangebyscore", index, "-inf", "-inf"},
		{"time"},
		{"scan", "0", "count", "1"}, // for Scan alone
	}
	if s.wait > 0 {
		commands = append(commands, []string{"wait", "0", "1"})
	}
	var refused []string
	var errs []error
	for _, c := range commands {
		if err := s.try(ctx, c, key, index); err != nil {
			refused, errs = append(refused, c[0]), append(errs, err)
		}
	}
	if refused == nil {
		return Finding{"commands", Fine, "", "the Redis user may do all that is needed", nil, false}
	}
	text := "Redis refused what is needed: " + strings.Join(refused, ", ")
	first := errs[0].Error()
	switch {
	case strings.HasPrefix(first, "NOPERM") && strings.Contains(first, " key"):
		text = fmt.Sprintf("the Redis user may not use keys that begin with %q; give the user ~%s*", s.prefix, s.prefix)
	case strings.HasPrefix(first, "NOPERM"):
		text = "the Redis user lacks commands; give the user +" + strings.Join(refused, " +")
	}
	return Finding{"commands", Problem, "", text, errs[0], false}
}

// try sends one command, and returns why it was refused. The command's result does not matter.
func (s *Store) try(ctx context.Context, c []string, keys ...string) error {
	cmd := s.client.B().Arbitrary(c[0])
	for _, arg := range c[1:] {
		if slices.Contains(keys, arg) {
			cmd = cmd.Keys(arg)
		} else {
			cmd = cmd.Args(arg)
		}
	}
	err := s.client.Do(ctx, cmd.Build().Pin()).Error()
	if rueidis.IsRedisNil(err) || err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
		return nil
	}
	return quoted(err)
}

func info(ctx context.Context, node rueidis.Client, section string) (map[string]string, error) {
	text, err := node.Do(ctx, node.B().Info().Section(section).Build().Pin()).ToString()
	if err != nil {
		return nil, quoted(err)
	}
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
