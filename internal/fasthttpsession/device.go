package fasthttpsession

import (
	"context"
	"errors"

	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/dbsc"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// DeviceStep is one of the two routes of device-bound sessions: Register or Refresh.
type DeviceStep func(ctx context.Context, x *middleware.Exchange, q middleware.DeviceRequest, set func(name, value string)) ([]byte, error)

// Register answers the registration of a device.
func Register(ctx context.Context, x *middleware.Exchange, q middleware.DeviceRequest, set func(name, value string)) ([]byte, error) {
	return x.RegisterDevice(ctx, q, set)
}

// Refresh answers the proof of a device.
func Refresh(ctx context.Context, x *middleware.Exchange, q middleware.DeviceRequest, set func(name, value string)) ([]byte, error) {
	return nil, x.RefreshDevice(ctx, q, set)
}

// DoDevice answers a device, for a host: it opens no session by its token first. It returns the error that the host answers.
func (s *Sessions) DoDevice(fctx *fasthttp.RequestCtx, step DeviceStep) error {
	x := s.Acquire(nil)
	defer s.Release(x)
	for _, line := range fctx.Request.Header.PeekAll(fasthttp.HeaderCookie) {
		s.Cookie.Find(line, &x.Presented)
	}
	if err := answerDevice(s.Context(fctx), fctx, x, s.deviceRequest(fctx), step); err != nil {
		return err
	}
	s.writeCookie(fctx, x)
	return nil
}

// HandleDevice answers a device, in a handler behind the middleware, which sets the cookie.
func HandleDevice(fctx *fasthttp.RequestCtx, step DeviceStep) error {
	x := exchangeOf(fctx)
	if x == nil {
		return errors.New("coatcheck: a handler of device-bound sessions is not mounted behind the session middleware")
	}
	if !x.Hold(x.Lend()) {
		return coatcheck.ErrDetached
	}
	defer x.Unhold()
	q := deviceRequest(fctx)
	q.Client = x.Client().IP
	if err := answerDevice(background(fctx), fctx, x, q, step); err != nil {
		fail(fctx, err)
	}
	return nil
}

func answerDevice(ctx context.Context, fctx *fasthttp.RequestCtx, x *middleware.Exchange, q middleware.DeviceRequest, step DeviceStep) error {
	body, err := step(ctx, x, q, fctx.Response.Header.Set)
	if err == nil {
		fctx.Response.SetBody(body)
	}
	return err
}

func (s *Sessions) deviceRequest(fctx *fasthttp.RequestCtx) middleware.DeviceRequest {
	q := deviceRequest(fctx)
	q.Client = s.Client(fctx)
	return q
}

func deviceRequest(fctx *fasthttp.RequestCtx) middleware.DeviceRequest {
	h := &fctx.Request.Header
	return middleware.DeviceRequest{
		UserAgent: h.UserAgent(), Noted: fctx.Time(), Host: string(h.Host()),
		Cookies: linesOf(fctx, fasthttp.HeaderCookie)(), Names: linesOf(fctx, dbsc.HeaderName)(), Proofs: linesOf(fctx, dbsc.HeaderProof)(),
	}
}
