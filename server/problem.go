package server

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// problem is an error answer: RFC 9457 problem details with a stable code and a constant text. It is an error, so that
// handlers return it; it never holds a byte of the request.
type problem struct {
	status     int
	code       string
	body       []byte
	retryAfter string
}

func newProblem(status int, code, detail string) *problem {
	body, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(status), status, code, detail})
	if err != nil {
		panic(err) // constants of this file
	}
	p := &problem{status: status, code: code, body: body}
	if status == http.StatusServiceUnavailable || code == "too_many_connections" {
		p.retryAfter = "1"
	}
	return p
}

var (
	problemBadRequest       = newProblem(400, "bad_request", "The request could not be parsed.")
	problemBadJSON          = newProblem(400, "malformed_body", "The body must be one JSON object in valid UTF-8, with known members, none of them twice.")
	problemBadQuery         = newProblem(400, "malformed_query", "The query parameter current must be true or false.")
	problemUnauthenticated  = newProblem(401, "unauthenticated", "There is no live session of a user.")
	problemAdminKey         = newProblem(401, "unauthenticated", "The admin API wants one of its keys as Bearer token.")
	problemLoginRefused     = newProblem(401, "login_refused", "The login was refused.")
	problemLoginRevoked     = newProblem(401, "login_revoked", "The user's sessions were ended while this login was on its way.")
	problemReauth           = newProblem(403, "reauth_required", "The login is too old for this; log in again.")
	problemCrossSite        = newProblem(403, "cross_site", "The request comes from another site.")
	problemForbidden        = newProblem(403, "forbidden", "The request is not allowed here.")
	problemNotFound         = newProblem(404, "not_found", "There is nothing at this path.")
	problemSessionNotFound  = newProblem(404, "session_not_found", "There is no such session.")
	problemMethod           = newProblem(405, "method_not_allowed", "The path does not take this method.")
	problemTimeout          = newProblem(408, "request_timeout", "The request took too long to arrive.")
	problemBodyTooLarge     = newProblem(413, "body_too_large", "The body is larger than 16 KiB.")
	problemMediaType        = newProblem(415, "unsupported_media_type", "The body must be application/json without content encoding.")
	problemUserID           = newProblem(422, "invalid_user_id", "user_id must be a string of 1 to 256 bytes without control characters.")
	problemHeaderTooLarge   = newProblem(431, "header_too_large", "The header block is larger than 8 KiB.")
	problemLoginThrottled   = newProblem(429, "login_throttled", "Too many logins failed. Try again later.")
	problemTooManyConns     = newProblem(429, "too_many_connections", "The client has too many connections.")
	problemSeconds          = newProblem(400, "malformed_query", "The query parameter seconds must be above 0 and at most 300.")
	problemProfiling        = newProblem(409, "profile_running", "A profile of this kind is being taken.")
	problemInternal         = newProblem(500, "internal", "The server failed to answer.")
	problemStoreUnavailable = newProblem(503, "store_unavailable", "The session store cannot be reached. The session is not affected.")
	problemStoreFull        = newProblem(503, "store_full", "The session store takes no more sessions.")
	problemRecordNewer      = newProblem(503, "record_newer", "The session was written by a newer release.")
	problemStopping         = newProblem(503, "stopping", "The server is stopping.")
	problemTooLarge         = newProblem(503, "session_too_large", "The changes of parallel requests do not fit one session.")
	problemLoginBusy        = newProblem(503, "login_busy", "Too many logins are being checked.")
	problemLoginBackEnd     = newProblem(503, "login_unavailable", "The login back end cannot be reached.")
)

// Error returns the problem's code.
func (p *problem) Error() string { return p.code }

// write makes the problem the response; headers that are not about the body stay.
func (p *problem) write(ctx *fasthttp.RequestCtx) {
	ctx.Response.ResetBody()
	ctx.Response.Header.Del(fasthttp.HeaderContentEncoding)
	ctx.SetStatusCode(p.status)
	ctx.SetContentType("application/problem+json")
	if p.retryAfter != "" {
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, p.retryAfter)
	}
	ctx.SetBody(p.body)
}

// writeError is the Fiber error handler: every error that a handler, the router or fasthttp's parser returned becomes a
// problem, and what the error says itself stays here.
func writeError(c *fiber.Ctx, err error) error {
	var p *problem
	if !errors.As(err, &p) {
		p = problemOfStatus(err)
	}
	p.write(c.Context())
	return nil
}

func problemOfStatus(err error) *problem {
	var fe *fiber.Error
	if !errors.As(err, &fe) {
		return problemInternal
	}
	switch fe.Code {
	case fiber.StatusBadRequest:
		return problemBadRequest
	case fiber.StatusNotFound:
		return problemNotFound
	case fiber.StatusMethodNotAllowed:
		return problemMethod
	case fiber.StatusRequestTimeout:
		return problemTimeout
	case fiber.StatusRequestEntityTooLarge:
		return problemBodyTooLarge
	case fiber.StatusRequestHeaderFieldsTooLarge:
		return problemHeaderTooLarge
	default:
		return problemInternal
	}
}
