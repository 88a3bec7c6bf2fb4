package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/asynclog"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/traces"
	"github.com/coatcheck/coatcheck/server"
)

// Run runs the server until a signal ends it, or a listener fails. Its error has been written to stderr.
func Run(c *config.Config, o *credentials.Opened, again func() (*config.Config, error), version string, signals <-chan os.Signal, stdout, stderr io.Writer) error {
	out := asynclog.New(stderr, func(w io.Writer) slog.Handler { return newHandler(c, w) })
	log := slog.New(newHandler(c, out))
	slog.SetDefault(log) // also for what was not given one, and for package log
	c.Server.Collectors = append(c.Server.Collectors, droppedLines(out.Dropped))
	deadline, err := serve(c, o, again, version, signals, stdout, log)
	if err != nil {
		_, _ = fmt.Fprintf(out, "coatcheck: %v\n", err) // it never fails
	}
	// Who reads slowly gets some time even if the requests took all there was, or somebody will not wait.
	if soon := time.Now().Add(flushFor); deadline.Before(soon) || errors.Is(err, errCut) {
		deadline = soon
	}
	out.Close(deadline)
	return err
}

// flushFor is how long the end waits at least for the log to be read.
const flushFor = 250 * time.Millisecond

// serve runs the server until a signal ends it, or a listener fails. What it leaves behind should be done by deadline, which
// is zero if no signal told it to stop.
func serve(c *config.Config, o *credentials.Opened, again func() (*config.Config, error), version string, signals <-chan os.Signal, stdout io.Writer, log *slog.Logger) (deadline time.Time, err error) {
	c.Server.Logger = log
	var spans *traces.Traces
	if c.OTel {
		if spans, err = traces.Start(version, log); err != nil {
			return deadline, err
		}
	}
	if spans != nil {
		c.Server.Trace = spans.Request
	}
	// After the store, whose last writes nothing may delay.
	defer func() {
		if !errors.Is(err, errCut) {
			spans.Stop(deadline)
		}
	}()
	store, err := openStore(c, log)
	if err != nil {
		return deadline, err
	}
	// When all is served: until then a request in flight may need the store. Not when somebody will not wait.
	defer func() {
		if !errors.Is(err, errCut) {
			err = errors.Join(err, store.Close())
		}
	}()
	if c.Login == "users" {
		makeRoomForHashes()
	}
	c.Server.Login, c.Server.Policy.Admits, c.Server.AdminKeys = throttled(o.Login, store), o.Admits, o.AdminKeys
	c.Server.Collectors = append(c.Server.Collectors, storeCollector(store))
	srv, err := server.New(spans.Around(store), c.Server)
	if err != nil {
		return deadline, err
	}
	public, admin, err := listen(c)
	if err != nil {
		return deadline, err
	}
	if o.Certificate != nil {
		o.Certificate.SetLog(log)
	}
	announce(c, o, public, admin, log, stdout)
	// Each listener reports once: that it failed, or that it was shut down.
	ended := make(chan error, 2)
	running := 1
	go func() { ended <- servePublic(o, srv, public) }()
	if admin != nil {
		running++
		go func() { ended <- srv.ServeAdmin(admin) }()
	}
	retry := time.NewTicker(owedEvery)
	defer retry.Stop()
	failed, err := wait(signals, ended, retry.C, log, func() { reread(o, again, srv, log) }, func() { endOwed(o, srv, log) })
	if failed {
		running--
	}
	deadline = time.Now().Add(c.Shutdown)
	return deadline, errors.Join(err, stop(c, srv, deadline, signals, ended, running))
}

func servePublic(o *credentials.Opened, srv *server.Server, ln net.Listener) error {
	if o.Certificate == nil {
		return srv.Serve(ln)
	}
	return srv.ServeTLS(ln, o.Certificate.ServerConfig())
}

// makeRoomForHashes gives the scheduler as many more threads as login.Users hashes at once, for those that are not left to
// the other process. Go lets a hash keep its place for 10 ms, so that requests queue behind it where there are few places; the
// kernel shares the cores out finer (decision 29).
func makeRoomForHashes() {
	procs := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(procs + max(1, procs-1))
}

// errCut: the server was told twice to stop.
var errCut = errors.New("a second signal ended the server at once; requests may have been cut off")

// listen opens both listeners, or none. admin is nil when it is off.
func listen(c *config.Config) (public, admin net.Listener, err error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // such a listener takes no socket filter, which the server needs to stop without a reset
	ctx := context.Background()
	if public, err = lc.Listen(ctx, "tcp", c.Listen); err != nil {
		return nil, nil, fmt.Errorf("--listen: %w", err)
	}
	if c.AdminListen == "off" {
		return public, nil, nil
	}
	if admin, err = lc.Listen(ctx, "tcp", c.AdminListen); err != nil {
		return nil, nil, errors.Join(fmt.Errorf(`--admin-listen (it may be "off"): %w`, err), public.Close())
	}
	return public, admin, nil
}

// wait returns when a signal tells the server to stop, or when a listener failed. Until then it does what a HUP asks for, and
// what could not be done is tried again at each tick.
func wait(signals <-chan os.Signal, ended <-chan error, retry <-chan time.Time, log *slog.Logger, hup, again func()) (failed bool, err error) {
	for {
		select {
		case err := <-ended:
			return true, fmt.Errorf("a listener failed: %w", err)
		case <-retry:
			again()
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				hup()
				continue
			}
			log.Info("stopping", "signal", sig.String())
			return false, nil
		}
	}
}

// stop drains the server and waits for its listeners to return, for as long as --shutdown-timeout allows and until a
// second signal.
func stop(c *config.Config, srv *server.Server, deadline time.Time, signals <-chan os.Signal, ended <-chan error, running int) error {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	drained := make(chan error, 1)
	go func() {
		err := srv.Shutdown(ctx)
		for range running {
			select {
			case e := <-ended:
				err = errors.Join(err, e)
			case <-ctx.Done():
				err = errors.Join(err, ctx.Err())
			}
		}
		drained <- err
	}()
	for {
		select {
		case err := <-drained:
			if errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("requests were cut off after --shutdown-timeout %v", c.Shutdown)
			}
			return err
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				return errCut
			}
		}
	}
}

// newHandler writes log lines as the configuration says, in UTC, so that those of several machines compare.
func newHandler(c *config.Config, w io.Writer) slog.Handler {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level = slog.LevelInfo // cannot be: the setting is one of the words that slog knows
	}
	opt := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			a.Value = slog.TimeValue(a.Value.Time().UTC())
		}
		return a
	}}
	if c.LogFormat == "text" {
		return slog.NewTextHandler(w, opt)
	}
	return slog.NewJSONHandler(w, opt)
}
