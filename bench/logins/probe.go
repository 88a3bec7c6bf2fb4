package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/valyala/fasthttp"
)

// runProbe asks who the cookie is, once in a while, and prints how long each answer took in milliseconds, as JSON. It is a
// process of its own, so that it waits for the server and not for the load generator's scheduler. An answer's time counts
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
			due = time.Now() // that the timer was late is not the server's doing
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
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "probe", "-address", address, "-cookie", cookie, "-window", s.window.String(), "-every", s.every.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	var took []float64
	return took, json.Unmarshal(out, &took)
}
