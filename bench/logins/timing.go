package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/server/login"
)

// The reasons for a refusal whose time must not tell them apart. An unknown user comes first: the others are
// compared with that.
var reasons = []string{"unknown", "wrongpw", "disable", "nohash_"}

// limits of AUT-02.
const (
	maxMedians = 0.05
	minP       = 0.01
)

// runTiming makes n attempts for each reason, in random order over one connection, and fails if the reasons can be told from the
// times. No two attempts share a name or an address, so that no attempt is throttled.
func runTiming(ctx context.Context, program string, n int) error {
	lines, err := usersOf(n)
	if err != nil {
		return err
	}
	t, err := startTarget(ctx, program, lines)
	if err != nil {
		return err
	}
	took, err := refusals(ctx, t.address, n)
	if err := errors.Join(err, t.stop()); err != nil {
		return err
	}
	failed := false
	for _, reason := range reasons[1:] {
		v, err := judge(took[reasons[0]], took[reason])
		if err != nil {
			return err
		}
		fmt.Printf("%s %.3f ms, %s %.3f ms: medians %+.2f %%, Mann-Whitney p = %.3f (%d each)\n",
			reasons[0], v.was, reason, v.is, 100*v.delta(), v.p, n)
		failed = failed || !v.same()
	}
	if failed {
		return fmt.Errorf("the time tells the reason: medians differ by more than %.0f %%, or p is below %v", 100*maxMedians, minP)
	}
	return nil
}

// usersOf returns the lines of the users file for n attempts of each reason whose user is in it.
func usersOf(n int) ([]string, error) {
	hash, err := login.HashPassword([]byte(knownPassword))
	if err != nil {
		return nil, err
	}
	var lines []string
	for i := range n {
		lines = append(lines, nameOf("wrongpw", i)+":"+hash, nameOf("disable", i)+":!"+hash, nameOf("nohash_", i)+":")
	}
	return lines, nil
}

func nameOf(reason string, i int) string { return fmt.Sprintf("%s-%06d", reason, i) }

// refusals returns how long each attempt took, in milliseconds, by reason.
func refusals(ctx context.Context, address string, n int) (map[string][]float64, error) {
	c, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	defer c.close()
	order := rand.Perm(n * len(reasons))
	took := make(map[string][]float64)
	for k, at := range order {
		reason, i := reasons[at%len(reasons)], at/len(reasons)
		attempt{nameOf(reason, i), fmt.Sprintf("canary-wrong-%06d", k), clientAddress(k)}.write(&c.req)
		began := time.Now()
		if err := c.exchange(); err != nil {
			return nil, err
		}
		d := time.Since(began)
		if c.resp.StatusCode() != fasthttp.StatusUnauthorized {
			return nil, fmt.Errorf("attempt %d (%s): status %d", k, reason, c.resp.StatusCode())
		}
		took[reason] = append(took[reason], float64(d.Microseconds())/1000)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return took, nil
}

// clientAddress is the k-th address of 10.0.0.0/8.
func clientAddress(k int) string { return fmt.Sprintf("10.%d.%d.%d", k>>16&0xff, k>>8&0xff, k&0xff) }
