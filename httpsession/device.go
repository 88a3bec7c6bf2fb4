package httpsession

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/dbsc"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// RegisterDevice is the handler that binds a session to the browser's device (Config.DBSC). Mount it behind the middleware for
// POST, at /register below that path.
func RegisterDevice(w http.ResponseWriter, r *http.Request) {
	answerDevice(w, r, func(ctx context.Context, x *middleware.Exchange, q middleware.DeviceRequest) ([]byte, error) {
		return x.RegisterDevice(ctx, q, w.Header().Set)
	})
}

// RefreshDevice is the handler that renews the token of a bound session for a proof of its device. Mount it behind the
// middleware for POST, at /refresh below Config.DBSC. Keep it mounted when Config.DBSC is taken out again, for the sessions
// that are bound.
func RefreshDevice(w http.ResponseWriter, r *http.Request) {
	answerDevice(w, r, func(ctx context.Context, x *middleware.Exchange, q middleware.DeviceRequest) ([]byte, error) {
		return nil, x.RefreshDevice(ctx, q, w.Header().Set)
	})
}

func answerDevice(w http.ResponseWriter, r *http.Request, step func(context.Context, *middleware.Exchange, middleware.DeviceRequest) ([]byte, error)) {
	body, err := deviceStep(r, step)
	if err != nil {
		fail(w, err)
		return
	}
	_, _ = w.Write(body)
}

// deviceStep takes the step, during which neither the answer is sent nor the request may become another one.
func deviceStep(r *http.Request, step func(context.Context, *middleware.Exchange, middleware.DeviceRequest) ([]byte, error)) ([]byte, error) {
	c := contextOf(r)
	x := c.exchange()
	if x == nil {
		return nil, errors.New("coatcheck: a handler of device-bound sessions is not mounted behind the session middleware")
	}
	if !x.Hold(c.session) {
		return nil, coatcheck.ErrDetached
	}
	defer x.Unhold()
	return step(context.WithoutCancel(r.Context()), x, middleware.DeviceRequest{
		Client: x.Client().IP, UserAgent: bytesOf(r.UserAgent()), Noted: time.Now(), Host: r.Host,
		Cookies: r.Header["Cookie"], Names: r.Header[dbsc.HeaderName], Proofs: r.Header[dbsc.HeaderProof],
	})
}

// answerEarly answers in place of the handlers, and reports whether it did.
func answerEarly(w *responseWriter, r *http.Request) bool {
	if !w.x.Key().IsZero() { // so that a live session pays for none of the following
		return false
	}
	early := w.m.Early(w.x, middleware.EarlyRequest{
		Header: r.Header.Get, Cookies: func() []string { return r.Header["Cookie"] }, Method: r.Method, Target: func() string { return r.RequestURI },
	})
	switch {
	case early == nil:
		return false
	case early.Problem != nil:
		w.x.KeepCookies()
		fail(w, early.Problem)
	default:
		w.Header().Set("Location", early.Location)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
	return true
}
