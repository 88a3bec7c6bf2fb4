package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/redisstore"
	"github.com/coatcheck/coatcheck/shardstore"
)

// connectWithin is how long a Redis may take to answer when the server starts.
const connectWithin = 10 * time.Second

// openStore returns the store that --store names.
func openStore(c *config.Config, log *slog.Logger) (coatcheck.Store, error) {
	if c.Store == "memory" {
		return shardstore.New(shardstore.Options{
			MaxSessions: c.MaxSessions, Dir: c.DataDir, FsyncEvery: c.FsyncEvery, Logger: log,
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectWithin)
	defer cancel()
	opt := c.Redis
	opt.Logger = log
	return redisstore.New(ctx, opt)
}
