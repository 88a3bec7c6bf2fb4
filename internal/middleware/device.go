package middleware

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/dbsc"
	"github.com/coatcheck/coatcheck/internal/ownpath"
)

// DeviceRoute is one of the two routes of device-bound sessions.
type DeviceRoute string

// The two routes.
const (
	DeviceRegister DeviceRoute = "register"
	DeviceRefresh  DeviceRoute = "refresh"
)

// DeviceOutcome is the result of a device's request.
type DeviceOutcome string

// The outcomes.
const (
	DeviceOK        DeviceOutcome = "ok"
	DeviceChallenge DeviceOutcome = "challenge"   // a refresh without a proof, which is told what to sign
	DeviceRefused   DeviceOutcome = "refused"     // a wrong or old proof
	DeviceBound     DeviceOutcome = "bound"       // a registration for a session that is bound already
	DeviceGone      DeviceOutcome = "gone"        // no such bound session, or the browser's name cookie names another one
	DeviceThrottled DeviceOutcome = "throttled"   // too many proofs failed, or are being checked
	DeviceFailed    DeviceOutcome = "unavailable" // the store failed
)

// DeviceOutcomes returns the outcomes that a route can have.
func DeviceOutcomes(route DeviceRoute) []DeviceOutcome {
	if route == DeviceRegister {
		return []DeviceOutcome{DeviceOK, DeviceRefused, DeviceBound, DeviceThrottled, DeviceFailed}
	}
	return []DeviceOutcome{DeviceOK, DeviceChallenge, DeviceRefused, DeviceGone, DeviceThrottled, DeviceFailed}
}

// DeviceRequest is what a device sends. The slices hold the values of all header lines of a name.
type DeviceRequest struct {
	Client    netip.Addr
	UserAgent []byte
	Noted     time.Time // when the request arrived
	Host      string
	Cookies   []string
	Names     []string // of dbsc.HeaderName
	Proofs    []string // of dbsc.HeaderProof
}

func (q *DeviceRequest) client() coatcheck.Client {
	return coatcheck.Client{IP: q.Client, UserAgent: q.UserAgent}
}

// validateDBSC returns all mistakes of a configuration that offers to bind sessions.
func validateDBSC(cfg Config) error {
	err := cfg.Cookie.ValidateBinding()
	if !ownpath.Is(cfg.DBSC) || strings.HasSuffix(cfg.DBSC, "/") || strings.ContainsAny(cfg.DBSC, `"\?`) {
		err = errors.Join(err, fmt.Errorf("dbsc %.100q: must be a path that begins with one / and does not end with one", cfg.DBSC))
	}
	return err
}

// RegisterDevice binds a session to the device that sends its first proof. It calls set for the answer's headers and returns
// its body, or a Problem or an error of the session. The session is named by the challenge in the proof, because after a login
// that another site's page has sent the browser leaves the session cookie out.
func (x *Exchange) RegisterDevice(ctx context.Context, q DeviceRequest, set func(name, value string)) ([]byte, error) {
	m := x.of
	if m.dbsc == "" {
		return nil, NotFound
	}
	outcome, err := x.register(ctx, q)
	m.observer.Device(&x.Request, DeviceRegister, outcome)
	if err != nil {
		return nil, err
	}
	x.setChallenge(set)
	set("Content-Type", "application/json")
	return dbsc.Instructions{
		Name: x.Key().String(), RefreshURL: m.dbsc + dbsc.RefreshPath, Cookie: m.Cookie.Name(), Attributes: m.Cookie.Attributes(),
	}.JSON(), nil
}

func (x *Exchange) register(ctx context.Context, q DeviceRequest) (DeviceOutcome, error) {
	m := x.of
	m.Manager.OpenNone(&x.Request, q.client())
	p, err := onlyProof(q.Proofs)
	if err != nil || p.Key.Algorithm == 0 || !x.meant(p, q, dbsc.RegisterPath) {
		return DeviceRefused, bindingRefused
	}
	if name, ok := m.Cookie.FindName(q.Cookies); !ok || name != p.Name {
		return DeviceRefused, bindingRefused
	}
	foreign, err := x.openNamed(ctx, q, p.Name)
	switch {
	case errors.Is(err, coatcheck.ErrNotFound):
		return DeviceRefused, bindingRefused
	case err != nil:
		return DeviceFailed, err
	case foreign:
		return DeviceRefused, bindingRefused
	}
	err = x.MayBind(p.Key, p.Challenge)
	if err == nil {
		if err = m.check(p, p.Key, q.Client); err != nil {
			return outcomeOfCheck(err, bindingRefused)
		}
		err = x.Bind(ctx, p.Key, p.Challenge)
	}
	switch {
	case err == nil:
		return DeviceOK, nil
	case errors.Is(err, coatcheck.ErrBound):
		return DeviceBound, alreadyBound
	case errors.Is(err, coatcheck.ErrChallenge), errors.Is(err, coatcheck.ErrNotFound):
		return DeviceRefused, bindingRefused
	default:
		return DeviceFailed, err
	}
}

// RefreshDevice renews the token of a bound session for a proof of its device, and calls set for the answer's headers. It
// returns a Problem or an error of the session. Chromium takes some statuses for the end of the binding, so that the only ones
// are 200, 403 with a challenge, 404 for a session that is gone, and 503.
func (x *Exchange) RefreshDevice(ctx context.Context, q DeviceRequest, set func(name, value string)) error {
	outcome, err := x.refresh(ctx, q)
	x.of.observer.Device(&x.Request, DeviceRefresh, outcome)
	if err == nil || errors.Is(err, proofRequired) {
		x.setChallenge(set)
	}
	return err
}

func (x *Exchange) refresh(ctx context.Context, q DeviceRequest) (DeviceOutcome, error) {
	m := x.of
	m.Manager.OpenNone(&x.Request, q.client())
	if len(q.Names) != 1 {
		return DeviceGone, SessionNotFound
	}
	name, ok := dbsc.ParseName([]byte(q.Names[0]))
	if cookie, has := m.Cookie.FindName(q.Cookies); !ok || !has || cookie != name {
		return DeviceGone, SessionNotFound
	}
	if _, err := x.openNamed(ctx, q, name); errors.Is(err, coatcheck.ErrNotFound) {
		return DeviceGone, SessionNotFound
	} else if err != nil {
		return DeviceFailed, err
	}
	key, challenge, err := x.DeviceKey()
	if err != nil {
		return DeviceGone, SessionNotFound
	}
	if len(q.Proofs) == 0 {
		return DeviceChallenge, proofRequired
	}
	now := m.Manager.Now()
	if m.checks.Throttled(name, q.Client, now) {
		return DeviceThrottled, tooManyProofs
	}
	p, err := onlyProof(q.Proofs)
	if err != nil || p.Key.Algorithm != 0 || p.Algorithm != key.Algorithm || p.Name != name || !p.Challenge.Equal(challenge) || !x.meant(p, q, dbsc.RefreshPath) {
		m.checks.Failed(name, q.Client, now)
		return DeviceRefused, proofRequired
	}
	if err := m.check(p, key, q.Client); err != nil {
		return outcomeOfCheck(err, proofRequired)
	}
	switch err := x.Prove(ctx, p.Challenge); {
	case err == nil:
		return DeviceOK, nil
	case errors.Is(err, coatcheck.ErrChallenge):
		return DeviceRefused, proofRequired
	case errors.Is(err, coatcheck.ErrNotFound), errors.Is(err, coatcheck.ErrNotBound):
		return DeviceGone, SessionNotFound
	default:
		return DeviceFailed, err
	}
}

func (x *Exchange) openNamed(ctx context.Context, q DeviceRequest, name coatcheck.Key) (foreign bool, err error) {
	m := x.of
	return m.Manager.OpenNamed(ctx, &x.Request, name, &x.Presented, q.client(), m.Manager.Arrival(q.Noted))
}

// setChallenge tells the device what to sign next.
func (x *Exchange) setChallenge(set func(name, value string)) {
	if _, c, err := x.DeviceKey(); err == nil {
		set(dbsc.HeaderChallenge, string(dbsc.AppendNext(nil, x.NamedKey(), c)))
	}
}

// meant reports whether a proof may be meant for this route: browsers that say at all for whom it is name its address.
func (x *Exchange) meant(p *dbsc.Proof, q DeviceRequest, path string) bool {
	return p.For("https://"+q.Host+x.of.dbsc+path) || p.For("https://"+q.Host)
}

func onlyProof(values []string) (*dbsc.Proof, error) {
	if len(values) != 1 {
		return nil, dbsc.ErrProof
	}
	return dbsc.ParseProof([]byte(values[0]))
}

// check checks the signature of a proof, unless too many of this client for this session have failed.
func (m *Middleware) check(p *dbsc.Proof, key coatcheck.PublicKey, client netip.Addr) error {
	now := m.Manager.Now()
	if m.checks.Throttled(p.Name, client, now) || !m.checks.Begin() {
		return tooManyProofs
	}
	defer m.checks.End()
	err := p.Check(key)
	if err != nil {
		m.checks.Failed(p.Name, client, now)
	}
	return err
}

func outcomeOfCheck(err error, wrong *Problem) (DeviceOutcome, error) {
	if errors.Is(err, tooManyProofs) {
		return DeviceThrottled, tooManyProofs
	}
	return DeviceRefused, wrong
}
