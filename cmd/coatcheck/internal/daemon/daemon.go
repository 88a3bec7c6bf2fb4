package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/asynclog"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/config"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/credentials"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/memory"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/systemd"
	"github.com/coatcheck/coatcheck/cmd/coatcheck/internal/traces"
	"github.com/coatcheck/coatcheck/server"
)

// Options are the parts of a server. All of them but Manager are required.
type Options struct {
	Config      *config.Config
	Credentials *credentials.Credentials
	// NotBefore reads --sessions-not-before again, from the same sources as Config.
	NotBefore func() (time.Time, error)
	// Version is the version of this program in traces and metrics.
	Version string
	// Manager is told when the server serves, re-reads and stops; nil: nobody asks for that.
	Manager        *systemd.Manager
	Signals        Signals
	Stdout, Stderr io.Writer
}

// flushFor is the minimum time that the shutdown waits for the log to be written.
const flushFor = 2 * time.Second

// rereadWithin is how long the shutdown waits for a re-read that is under way, when the requests are over.
const rereadWithin = 250 * time.Millisecond

// oneStop is how long signals count as the one that came first: GNU timeout sends its signal to the process and then to its group, and a
// terminal sends a Ctrl-C to the whole group, in which a wrapper may pass it on.
const oneStop = time.Second

// errSecondSignal is returned when a second signal told the server to stop. Nothing is closed any more then.
var errSecondSignal = errors.New("a second signal ended the server at once; requests may have been cut off")

// Run runs the server until a signal ends it, or a listener fails. A drain that a signal started is no error. The error has
// been written to Stderr already.
func Run(opt Options) error {
	handler := func(w io.Writer) slog.Handler { return logHandler(opt.Config, w) }
	out := asynclog.New(opt.Stderr, handler)
	d := &daemon{Options: opt, log: newLog(out, handler), rereads: newRereads(), now: time.Now}
	slog.SetDefault(d.log) // also for code that was given no logger
	takePackageLog(d.log)
	d.Config.Server.Collectors = append(d.Config.Server.Collectors, droppedLines(out.Dropped))
	err := d.serve()
	if err != nil {
		_, _ = fmt.Fprintf(out, "coatcheck: %v\n", err) // an asynclog.Writer never fails
	}
	// A slow reader of the log gets some time even if the requests took all of it, or if a second signal ended the wait for them.
	until := d.deadline
	if soon := time.Now().Add(flushFor); until.Before(soon) || errors.Is(err, errSecondSignal) {
		until = soon
	}
	out.Close(until)
	return err
}

// daemon is a server and the process around it.
type daemon struct {
	Options
	log     *slog.Logger
	rereads *rereads

	deadline  time.Time // when the shutdown should be over; zero until a signal tells the server to stop, or a listener fails
	signalled time.Time // when the first signal told the server to stop; zero: none has
	now       func() time.Time
}

// serve opens what the server needs, runs it, and closes that again in the opposite order.
func (d *daemon) serve() (err error) {
	spans, err := d.startTraces()
	if err != nil {
		return err
	}
	// Traces stop after the store is closed, because nothing may delay the store's last writes.
	defer func() {
		if !errors.Is(err, errSecondSignal) {
			spans.Stop(d.deadline)
		}
	}()
	store, err := openStore(d.Config, d.log)
	if err != nil {
		return err
	}
	// The store is closed after all requests are answered, because a request in flight may need it.
	defer func() {
		if !errors.Is(err, errSecondSignal) {
			err = errors.Join(err, store.Close())
		}
	}()
	d.limitConnections()
	srv, err := d.newServer(spans, store)
	if err != nil {
		return err
	}
	public, admin, err := listen(d.Config)
	if err != nil {
		return err
	}
	announce(d.Config, d.Credentials, public, admin, d.log, d.Stdout)
	d.tell((*systemd.Manager).Ready)
	return d.runServer(srv, public, admin)
}

// tell tells the service manager something. That the manager does not listen must not end the sessions.
func (d *daemon) tell(what func(*systemd.Manager) error) {
	if err := what(d.Manager); err != nil {
		d.log.Warn("the service manager was not told", "error", err)
	}
}

// startTraces returns nil if traces are off.
func (d *daemon) startTraces() (*traces.Traces, error) {
	if !d.Config.OTel {
		return nil, nil //nolint:nilnil // a nil *Traces traces nothing
	}
	return traces.Start(d.Version, d.log)
}

// newServer makes the server from the configuration and from what was opened for it.
func (d *daemon) newServer(spans *traces.Traces, store coatcheck.Store) (*server.Server, error) {
	d.fitMemory()
	if d.Config.Login == "users" {
		makeRoomForHashes()
	}
	if d.Credentials.Certificate != nil {
		d.Credentials.Certificate.SetLog(d.log)
	}
	c := d.Config.Server
	c.Logger = d.log
	if c.OIDC = d.Credentials.Provider; c.OIDC != nil {
		c.OIDCIndex = providerIndex(store)
	}
	mode, err := throttled(d.Credentials.Login, store)
	if err != nil {
		return nil, err
	}
	c.Login, c.Policy.Admits, c.AdminKeys = mode, d.Credentials.Admits, d.Credentials.AdminKeys
	c.Collectors = slices.Concat(c.Collectors, []prometheus.Collector{storeCollector(store), buildInfo(d.Version)}, d.rereads.collectors())
	if cert := d.Credentials.Certificate; cert != nil {
		c.Collectors = append(c.Collectors, certificateEnd(cert))
	}
	c.WritesRefused, c.ReloadFailed = writesRefused(store), d.rereads.any
	if spans != nil {
		c.Trace = spans.Request
	}
	return server.New(spans.Around(store), c)
}

// fitMemory keeps the process below the memory that its container, or its unit, may use.
func (d *daemon) fitMemory() {
	var others int64
	if d.Config.Login == "users" {
		others = hashProcess + int64(max(1, runtime.GOMAXPROCS(0)-1))*hashMemory
	}
	if limit := memory.Fit(others); limit > 0 {
		d.log.Info("the memory limit of the control group is heeded", "go_memory_limit", limit, "gomaxprocs", runtime.GOMAXPROCS(0))
	}
}

// What the process that hashes passwords needs: as much as an idle server, and 19 MiB for each hash that is computed at once.
const (
	hashProcess = 32 << 20
	hashMemory  = 19 << 20
)

// makeRoomForHashes gives the scheduler as many more threads as login.Users hashes at once, for the hashes that are not left
// to the other process. Go lets a hash keep its thread for 10 ms, so that requests queue behind it where there are few
// threads; the kernel shares the cores out finer (decision 29).
func makeRoomForHashes() {
	procs := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(procs + max(1, procs-1))
}

// runServer serves until a signal tells it to stop, or a listener fails, and then drains the server. admin may be nil.
func (d *daemon) runServer(srv *server.Server, public, admin net.Listener) error {
	stopReloads := d.startReloads(srv) // first, so that the first scrape shows every series
	// Each listener reports once: that it failed, or that it was shut down.
	ended := make(chan error, 2)
	running := 1
	go func() { ended <- d.servePublic(srv, public) }()
	if admin != nil {
		running++
		go func() { ended <- srv.ServeAdmin(admin) }()
	}
	failure := d.wait(ended)
	if failure != nil {
		running--
	}
	d.deadline = time.Now().Add(d.Config.Shutdown)
	d.tell((*systemd.Manager).Stopping)
	err := errors.Join(failure, d.stop(srv, ended, running))
	stopReloads()
	return err
}

// startReloads begins to act on HUPs, beside the signals that stop the server: those must not wait for a file on a disk that
// does not answer. The function that it returns waits for a re-read that is under way, but not for long.
func (d *daemon) startReloads(srv *server.Server) (stop func()) {
	r := newReloader(d.Credentials.Sources, d.NotBefore, d.Config.File, srv, d.rereads, d.log)
	began := func() { d.tell((*systemd.Manager).Reloading) }
	done := func() { d.tell((*systemd.Manager).Ready) }
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		r.run(ctx, d.Signals.Reload, began, done)
	}()
	return func() {
		cancel()
		select {
		case <-over:
		case <-time.After(rereadWithin):
		}
	}
}

func (d *daemon) servePublic(srv *server.Server, ln net.Listener) error {
	if d.Credentials.Certificate == nil {
		return srv.Serve(ln)
	}
	return srv.ServeTLS(ln, d.Credentials.Certificate.ServerConfig())
}

// wait returns nil when a signal tells the server to stop, and an error when a listener failed. Until then it tells the service
// manager that the process is not stuck. It says no more than that: what else can be wrong, a store that is down for instance, is
// not mended by a restart.
func (d *daemon) wait(ended <-chan error) error {
	var alive <-chan time.Time
	if every := d.Manager.WatchdogEvery(); every > 0 {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		alive = ticker.C
	}
	for {
		select {
		case err := <-ended:
			return fmt.Errorf("a listener failed: %w", err)
		case sig := <-d.Signals.Stop:
			d.signalled = d.now()
			d.log.Info("stopping", "signal", sig.String())
			return nil
		case <-alive:
			d.tell((*systemd.Manager).Alive)
		}
	}
}

// stop drains the server and waits for its listeners to return, for as long as --shutdown-timeout allows and until a
// second signal that comes later than oneStop after the first.
func (d *daemon) stop(srv *server.Server, ended <-chan error, running int) error {
	ctx, cancel := context.WithDeadline(context.Background(), d.deadline)
	defer cancel()
	drained := make(chan error, 1)
	go func() {
		err := srv.Shutdown(ctx)
		for range running {
			select {
			case e := <-ended:
				err = errors.Join(err, e)
			case <-ctx.Done(): // Shutdown says whether requests were cut off
			}
		}
		drained <- err
	}()
	for {
		select {
		case err := <-drained:
			if errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("requests were cut off after --shutdown-timeout %v", d.Config.Shutdown)
			}
			return err
		case <-d.Signals.Stop:
			if d.now().Sub(d.signalled) >= oneStop {
				return errSecondSignal
			}
		}
	}
}
