package server

import (
	"context"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// readiness is the body of /readyz.
type readiness struct {
	Status string `json:"status"`
	Writes string `json:"writes"`
	Reload string `json:"reload"`
}

// ready fails while the store cannot be read, and from the moment that the server begins to stop. A store that refuses writes,
// and a file that could not be re-read, only show in the body: a load balancer would otherwise take every node out of
// rotation for one full Redis, and verify, which only reads, with them.
func (s *Server) ready(c *fiber.Ctx) error {
	if s.draining.Load() {
		return problemStopping
	}
	if err := s.manager.Store().Ping(context.Background()); err != nil {
		return middleware.ProblemOf(coatcheck.ErrUnavailable)
	}
	body := readiness{Status: "ready", Writes: "ok", Reload: "ok"}
	if s.writesRefused() {
		body.Writes = "refused"
	}
	if s.reloadFailed != nil && s.reloadFailed() {
		body.Reload = "failed"
	}
	return c.JSON(body)
}

func (s *Server) writesRefused() bool {
	if s.refused == nil {
		return false
	}
	_, refused := s.refused()
	return refused
}

// readyMetrics is what /readyz shows beside its status. The program has metrics of its own for what it re-reads.
func (s *Server) readyMetrics() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_store_writes_refused",
		Help: "1 while the store refuses writes, because a disk or Redis is full, read-only or failed: logins and changes are answered 503.",
	}, func() float64 {
		if s.writesRefused() {
			return 1
		}
		return 0
	})
}
