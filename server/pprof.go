package server

import (
	"bytes"
	"io"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// Profiles as `go tool pprof` fetches them. net/http/pprof is not imported, because its import alone adds its pages to the
// default server of every program which imports this package. Two of its pages are left out: the command line, which may hold
// the store's password, and goroutine stacks with arguments (debug=2).

// maxProfile is how long a profile may be taken.
const maxProfile = 5 * time.Minute

func profileIndex(c *fiber.Ctx) error {
	names := []string{"profile?seconds=30", "trace?seconds=1"}
	for _, p := range pprof.Profiles() {
		names = append(names, p.Name()+"?debug=1")
	}
	slices.Sort(names)
	c.Set(fiber.HeaderContentType, fiber.MIMETextPlainCharsetUTF8)
	return c.SendString("go tool pprof http://ADMIN_LISTENER/debug/pprof/NAME\n\n" + strings.Join(names, "\n") + "\n")
}

func profile(c *fiber.Ctx) error {
	switch name := c.Params("name"); name {
	case "profile":
		return timedProfile(c, 30*time.Second, pprof.StartCPUProfile, pprof.StopCPUProfile)
	case "trace":
		return timedProfile(c, time.Second, trace.Start, trace.Stop)
	default:
		p := pprof.Lookup(name)
		if p == nil {
			return problemNotFound
		}
		text := 0
		c.Set(fiber.HeaderContentType, fiber.MIMEOctetStream)
		if c.Query("debug", "0") != "0" {
			text = 1
			c.Set(fiber.HeaderContentType, fiber.MIMETextPlainCharsetUTF8)
		}
		return p.WriteTo(c.Response().BodyWriter(), text)
	}
}

// timedProfile answers with a recording of the time that the request asks for, or until the server stops.
func timedProfile(c *fiber.Ctx, usual time.Duration, start func(io.Writer) error, stop func()) error {
	seconds, err := strconv.ParseFloat(c.Query("seconds", strconv.FormatFloat(usual.Seconds(), 'f', -1, 64)), 64)
	if err != nil || !(seconds > 0 && seconds <= maxProfile.Seconds()) {
		return problemSeconds
	}
	var b bytes.Buffer
	if start(&b) != nil {
		return problemProfiling
	}
	wait(c.Context(), time.Duration(seconds*float64(time.Second)))
	stop()
	c.Set(fiber.HeaderContentType, fiber.MIMEOctetStream)
	return c.Send(b.Bytes())
}

// wait returns after the time, or when the server begins to stop.
func wait(ctx *fasthttp.RequestCtx, d time.Duration) {
	timer := time.NewTimer(d) // not a context made of ctx: when its time is over it may look at ctx, which serves another request by then
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
