package middleware

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/coatcheck/coatcheck"
)

// Problem is an error answer: RFC 9457 problem details with a stable code and a constant text. It is an error, so that
// handlers return it; it never holds a byte of the request.
type Problem struct {
	Status     int
	Code       string
	Body       []byte
	RetryAfter string // of the header of that name; empty: none
}

// ProblemType is the media type of a Problem.
const ProblemType = "application/problem+json"

// NewProblem returns a problem. One of status 503 asks the client to retry after a second.
func NewProblem(status int, code, detail string) *Problem {
	body, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}{"about:blank", phrase(status), status, code, detail})
	if err != nil {
		panic(err) // constants of the source
	}
	p := &Problem{Status: status, Code: code, Body: body}
	if status == http.StatusServiceUnavailable {
		p.RetryAfter = "1"
	}
	return p
}

// phrase returns the status phrase of RFC 9110, which the title of a problem of type about:blank should be (RFC 9457, section 4.2.1).
// http.StatusText keeps the older ones.
func phrase(status int) string {
	switch status {
	case http.StatusRequestEntityTooLarge:
		return "Content Too Large"
	case http.StatusUnprocessableEntity:
		return "Unprocessable Content"
	default:
		return http.StatusText(status)
	}
}

// Challenge is the WWW-Authenticate header of a 401. Strict clients refuse a 401 without one (RFC 9110, section 15.5.2).
const Challenge = `Cookie realm="coatcheck"`

// Headers calls set for each header of the answer.
func (p *Problem) Headers(set func(name, value string)) {
	set("Content-Type", ProblemType)
	if p.RetryAfter != "" {
		set("Retry-After", p.RetryAfter)
	}
	if p.Status == http.StatusUnauthorized {
		set("WWW-Authenticate", Challenge)
	}
}

// Error returns the problem's code.
func (p *Problem) Error() string { return p.Code }

var (
	loginRevoked = NewProblem(401, "login_revoked", "The user's sessions were ended while this login was on its way.")
	// Internal is the answer to an error of no other kind.
	Internal         = NewProblem(500, "internal", "The server failed to answer.")
	storeUnavailable = NewProblem(503, "store_unavailable", "The session store cannot be reached. What was asked for may have been done all the same.")
	storeFull        = NewProblem(503, "store_full", "The session store takes no more sessions.")
	recordNewer      = NewProblem(503, "record_newer", "The session was written by a newer release.")
	// NotFound is the answer for a path at which there is nothing.
	NotFound       = NewProblem(404, "not_found", "There is nothing at this path.")
	bindingRefused = NewProblem(400, "binding_refused", "The proof is not one that this session can be bound with.")
	alreadyBound   = NewProblem(409, "already_bound", "The session is bound to a device already.")
	proofRequired  = NewProblem(403, "proof_required", "The device must sign the challenge in this answer.")
	// SessionNotFound is the answer for a session that does not exist or is not the caller's.
	SessionNotFound = NewProblem(404, "session_not_found", "There is no such session.")
	tooManyProofs   = NewProblem(503, "too_many_proofs", "Too many proofs of this session have failed, or are being checked.")
	bindingPending  = RetryLater(NewProblem(429, "binding_pending", "The browser could not renew the session's cookie yet. The session is not affected."))
	tooLarge        = NewProblem(503, "session_too_large", "The changes of parallel requests do not fit one session.")
	sessionBusy     = NewProblem(503, "session_busy", "Parallel requests kept changing the session. Try again.")
)

// RetryLater asks the client to retry after a second.
func RetryLater(p *Problem) *Problem {
	p.RetryAfter = "1"
	return p
}

// ProblemOf maps an error of a session to its answer. It is the only place that does. Any other error becomes the problem
// "internal".
func ProblemOf(err error) *Problem {
	var p *Problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, coatcheck.ErrRevoked):
		return loginRevoked
	case errors.Is(err, coatcheck.ErrFull):
		return storeFull
	case errors.Is(err, coatcheck.ErrNewer):
		return recordNewer
	case errors.Is(err, coatcheck.ErrTooLarge):
		return tooLarge
	case errors.Is(err, coatcheck.ErrUnavailable):
		return storeUnavailable
	case errors.Is(err, coatcheck.ErrConflict): // last: a store may fail with it too
		return sessionBusy
	default:
		return Internal
	}
}
