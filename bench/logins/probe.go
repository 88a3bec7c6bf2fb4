package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/bench/internal/process"
)

// runProbe sends GET /auth/me with the cookie, once in a while, and prints how long each answer took in milliseconds, as JSON. It
// is a process of its own, so that it waits for the server and not for the load generator's scheduler. An answer's time counts
// from when the request was due (no coordinated omission).
func runProbe(address, cookie string, window, every time.Duration) error {
	c, err := dial(context.Background(), address)
	if err != nil {
		return err
	}
	defer c.close()
	c.req.SetRequestURI("/auth/me")
	c.req.Header.SetHost("localhost")
	c.req.Header.Set("Cookie", cookie)
	var took []float64
	end := time.Now().Add(window)
	for due := time.Now(); time.Now().Before(end); due = due.Add(every) {
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
			due = time.Now() // a late timer is not the server's delay
		}
		if err := c.exchange(); err != nil {
			return err
		}
		if c.resp.StatusCode() != fasthttp.StatusOK {
			return fmt.Errorf("me answered %d", c.resp.StatusCode())
		}
		took = append(took, float64(time.Since(due).Microseconds())/1000)
	}
	return json.NewEncoder(os.Stdout).Encode(took)
}

// probe runs runProbe in a process of its own and returns what it found.
func probe(ctx context.Context, address, cookie string, s storm) ([]float64, error) {
	var took []float64
	err := process.RunSelf(ctx, nil, &took, "probe", "-address", address, "-cookie", cookie, "-window", s.window.String(), "-every", s.every.String())
	if err == nil && len(took) == 0 {
		err = errors.New("the probe's window was too short for a single answer")
	}
	return took, err
}
