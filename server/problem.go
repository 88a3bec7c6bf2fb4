package server

import (
	"errors"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/internal/middleware"
)

// problem is an error answer, which handlers return as an error.
type problem = middleware.Problem

var (
	problemBadRequest      = middleware.NewProblem(400, "bad_request", "The request could not be parsed.")
	problemNotTLS          = middleware.NewProblem(400, "bad_request", "This port takes https only.")
	problemBadJSON         = middleware.NewProblem(400, "malformed_body", "The body must be one JSON object in valid UTF-8, with known members of the right types, none of them twice.")
	problemBadQuery        = middleware.NewProblem(400, "malformed_query", "The only query that this takes is current=true.")
	problemBadRule         = middleware.NewProblem(400, "malformed_query", "The query must be empty, or one group= with up to 16 groups, none of them empty.")
	problemAdminQuery      = middleware.NewProblem(400, "malformed_query", "A query parameter is missing, unknown, given twice, or has no value that it may have.")
	problemCursor          = middleware.NewProblem(400, "unknown_cursor", "The cursor is not known here. Begin again without one.")
	problemOIDCCallback    = middleware.NewProblem(400, "oidc_callback", "The request is no answer of a provider.")
	problemOIDCState       = middleware.NewProblem(400, "oidc_state", "This browser has begun no such login, or too long ago.")
	problemOIDCIssuer      = middleware.NewProblem(400, "oidc_issuer", "The answer comes from another provider.")
	problemOIDCCode        = middleware.NewProblem(400, "oidc_code", "The provider does not know this login any more.")
	problemUnauthenticated = middleware.NewProblem(401, "unauthenticated", "There is no live session of a user.")
	problemAdminKey        = middleware.NewProblem(401, "unauthenticated", "The admin API wants one of its keys as Bearer token.")
	problemLoginRefused    = middleware.NewProblem(401, "login_refused", "The login was refused.")
	problemOIDCDenied      = middleware.NewProblem(403, "oidc_denied", "The provider did not let you in.")
	problemOIDCNotAllowed  = middleware.NewProblem(403, "oidc_not_allowed", "You may not sign in here.")
	problemOIDCNotVerified = middleware.NewProblem(403, "oidc_not_verified", "The provider does not say who you are in the form that is needed here, such as a verified e-mail address.")
	problemClaimsTooLarge  = middleware.NewProblem(403, "claims_too_large", "What is known of the user does not fit a session.")
	problemGroupRequired   = middleware.NewProblem(403, "group_required", "The user is in none of the groups that may come here.")
	problemReauth          = middleware.NewProblem(403, "reauth_required", "The login is too old for this; log in again.")
	problemCrossSite       = middleware.NewProblem(403, "cross_site", "The request comes from another site.")
	problemForbidden       = middleware.NewProblem(403, "forbidden", "The request is not allowed here.")
	problemNotFound        = middleware.NotFound
	problemSessionNotFound = middleware.SessionNotFound
	problemMethod          = middleware.NewProblem(405, "method_not_allowed", "The path does not take this method.")
	problemTimeout         = middleware.NewProblem(408, "request_timeout", "The request took too long to arrive.")
	problemBodyTooLarge    = middleware.NewProblem(413, "body_too_large", "The body is larger than 16 KiB.")
	problemMediaType       = middleware.NewProblem(415, "unsupported_media_type", "The body must be application/json without content encoding.")
	problemUserID          = middleware.NewProblem(422, "invalid_user_id", "user_id must be a string of 1 to 256 bytes without control characters.")
	problemClaims          = middleware.NewProblem(422, "invalid_claims", "claims must be an object of strings and of lists of strings; name and email are strings, groups a list, and sub is the user ID's.")
	problemHeaderTooLarge  = middleware.NewProblem(431, "header_too_large", "The header block is larger than the server reads, or has more than 128 lines.")
	problemLoginThrottled  = middleware.NewProblem(429, "login_throttled", "Too many logins failed. Try again later.")
	problemTooManyEnds     = middleware.NewProblem(429, "too_many_requests", "The session has ended others too often. Try again later.")
	problemTooManyConns    = middleware.RetryLater(middleware.NewProblem(429, "too_many_connections", "The client has too many connections."))
	problemSeconds         = middleware.NewProblem(400, "malformed_query", "The query parameter seconds must be above 0 and at most 300.")
	problemProfiling       = middleware.NewProblem(409, "profile_running", "A profile of this kind is being taken.")
	problemInternal        = middleware.Internal
	problemOIDCAnswer      = middleware.NewProblem(502, "oidc_answer", "The provider gave an answer that cannot be used.")
	problemOIDCToken       = middleware.NewProblem(502, "oidc_token", "The provider gave a token that is not valid for this login.")
	problemOIDCUserInfo    = middleware.NewProblem(502, "oidc_userinfo", "The provider gave details that do not belong to this login.")
	problemOIDCUnavailable = middleware.NewProblem(503, "oidc_unavailable", "The provider cannot be reached, or cannot answer now.")
	problemStopping        = middleware.NewProblem(503, "stopping", "The server is stopping.")
	problemLoginBusy       = middleware.NewProblem(503, "login_busy", "Too many logins are being checked.")
	problemTooManyWatchers = middleware.NewProblem(503, "too_many_watchers", "The session, or the server, has as many watchers as it may.")
	problemLoginBackEnd    = middleware.NewProblem(503, "login_unavailable", "The login back end cannot be reached.")
)

// writeProblem makes the problem the response. Headers that are not about the body stay, including a Retry-After and a
// WWW-Authenticate that the handler has set.
func writeProblem(ctx *fasthttp.RequestCtx, p *problem) {
	ctx.Response.ResetBody()
	ctx.Response.Header.Del(fasthttp.HeaderContentEncoding)
	ctx.SetStatusCode(p.Status)
	ctx.SetContentType(middleware.ProblemType)
	p.Headers(func(name, value string) {
		if len(ctx.Response.Header.Peek(name)) == 0 {
			ctx.Response.Header.Set(name, value)
		}
	})
	ctx.SetBody(p.Body)
}

// writeError is the Fiber error handler, and the only place where an error becomes an answer: an error of a handler, a
// session, the router or fasthttp's parser. The answer does not contain the error's text.
func (s *Server) writeError(c *fiber.Ctx, err error) error {
	ctx := c.Context()
	ctx.Hijack(nil) // a stream that the handler had begun
	ctx.HijackSetNoResponse(false)
	var p *problem
	var fe *fiber.Error
	switch {
	case errors.As(err, &p):
	case errors.As(err, &fe):
		p = problemOfStatus(fe.Code)
	default: // an error of a session or the store: the handler's answer is discarded
		p = middleware.ProblemOf(err)
		s.audit.Failed(s.client(ctx), err)
		if p.Status >= fiber.StatusInternalServerError { // a refused login may still clear a dead cookie
			base := s.base
			if c.App() == s.admin {
				base = s.adminBase
			}
			base.begin(ctx)
		}
	}
	writeProblem(ctx, p)
	if failed := new(failedSignIn); errors.As(err, &failed) {
		failed.showPage(ctx, p)
	}
	return nil
}

func problemOfStatus(status int) *problem {
	switch status {
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
