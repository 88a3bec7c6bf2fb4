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

func (s *Server) profile(c *fiber.Ctx) error {
	switch name := c.Params("name"); name {
	case "profile":
		return s.timedProfile(c, 30*time.Second, pprof.StartCPUProfile, pprof.StopCPUProfile)
	case "trace":
		return s.timedProfile(c, time.Second, trace.Start, trace.Stop)
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

// timedProfile answers with a recording of the time that the request asks for, or until the server begins to stop.
func (s *Server) timedProfile(c *fiber.Ctx, usual time.Duration, start func(io.Writer) error, stop func()) error {
	seconds, err := strconv.ParseFloat(c.Query("seconds", strconv.FormatFloat(usual.Seconds(), 'f', -1, 64)), 64)
	if err != nil || !(seconds > 0 && seconds <= maxProfile.Seconds()) {
		return problemSeconds
	}
	var b bytes.Buffer
	if start(&b) != nil {
		return problemProfiling
	}
	s.wait(time.Duration(seconds * float64(time.Second)))
	stop()
	c.Set(fiber.HeaderContentType, fiber.MIMEOctetStream)
	return c.Send(b.Bytes())
}

// wait returns after the time, or when the server begins to stop. The request's own context ends only when all connections have
// gone, this one included.
func (s *Server) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.stopping:
	}
}
