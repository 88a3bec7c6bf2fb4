package middlewaretest

import (
	"bytes"
	"compress/gzip"
	"errors"
	"mime/multipart"
	"net/url"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/middleware"
)

// csrfRules are the rules about the adapter's Check. The tests of package middleware cover the form of a token.
var csrfRules = []rule{
	{"unsafe methods need a token", checkFormMethods},
	{"where a form's token stands", checkFormBodies},
	{"no token of a session that is about to end", checkFormOfPending},
}

const formType = "Content-Type: application/x-www-form-urlencoded"

// forms serves /token, which answers with a token, and /form behind Check. It returns the cookie of a session, and its token.
func (h *harness) forms() (line, token string) {
	h.Helper()
	c, err := middleware.NewCSRF([]byte("canary-key-" + strings.Repeat("k", middleware.MinCSRFKey)))
	require.NoError(h, err)
	h.serve(App{Layers: []Layer{h.sessions(nil), {CSRF: c}}, Handlers: with(basics, map[string]Handler{
		"/token": func(ctx Context) error { return text(ctx, c.Token(ctx.Session())) },
		"/form":  func(ctx Context) error { return text(ctx, "done "+string(ctx.Body())) },
	})})
	// The login is sent as a GET, because Check would refuse a POST without a token.
	line = h.Cookie(h.Token(h.Get("/login?user=u")))
	return line, h.Get("/token", line).Body
}

func checkFormMethods(h *harness) {
	line, token := h.forms()
	other := h.Cookie(h.Token(h.Get("/login?user=v")))
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		assert.Equal(h, 403, h.Do(method, "/form", line).Status, method)
		assert.Equal(h, 200, h.Do(method, "/form", line, "X-CSRF-Token: "+token).Status, method)
		assert.Equal(h, 403, h.Do(method, "/form", other, "X-CSRF-Token: "+token).Status, "%s: another session's", method)
		assert.Equal(h, 403, h.Do(method, "/form", "X-CSRF-Token: "+token).Status, "%s: without a session", method)
		assert.Equal(h, 403, h.Do(method, "/form", line, "X-CSRF-Token: "+token[1:]+"A").Status, method)
	}
	for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
		assert.Equal(h, 200, h.Do(method, "/form", line).Status, method)
	}
	next := h.Cookie(h.Token(h.Get("/rotate", line)))
	assert.Equal(h, 200, h.Do("POST", "/form", next, "X-CSRF-Token: "+token).Status, "a refresh keeps open forms")
}

// A token is bound to the session, and a login or a logout that is not committed yet ends the one that it would be bound to.
func checkFormOfPending(h *harness) {
	c, err := middleware.NewCSRF([]byte("canary-key-" + strings.Repeat("k", middleware.MinCSRFKey)))
	require.NoError(h, err)
	token := func(before func(s *coatcheck.Session) error, commit bool) Handler {
		return func(ctx Context) error {
			err := before(ctx.Session())
			if commit {
				err = errors.Join(err, ctx.Session().Commit(ctx.Context()))
			}
			return errors.Join(err, text(ctx, c.Token(ctx.Session())))
		}
	}
	login := func(s *coatcheck.Session) error { return s.Authenticate("u") }
	logout := func(s *coatcheck.Session) error { s.Destroy(); return nil }
	h.serve(App{Layers: []Layer{h.sessions(nil), {CSRF: c}}, Handlers: with(basics, map[string]Handler{
		"/pending": token(login, false), "/committed": token(login, true), "/ended": token(logout, false), "/form": func(Context) error { return nil },
	})})
	line := h.Cookie(h.Token(h.Get("/login?user=u")))
	assert.Empty(h, h.Get("/pending").Body, "without a session before")
	resp := h.Get("/pending", line)
	assert.Empty(h, resp.Body, "of the same user, too")
	line = h.Cookie(h.Token(resp))
	resp = h.Get("/committed", line)
	line = h.Cookie(h.Token(resp))
	assert.Equal(h, 200, h.Do("POST", "/form", line, "X-CSRF-Token: "+resp.Body).Status)
	assert.Empty(h, h.Get("/ended", line).Body)
}

func checkFormBodies(h *harness) {
	line, token := h.forms()
	post := func(path, body string, head ...string) int {
		h.Helper()
		return h.Send(request{Method: "POST", Path: path, Head: append(head, line), Body: body}).Status
	}
	field := url.Values{"csrf_token": {token}, "x": {"y"}}.Encode()
	assert.Equal(h, 200, post("/form", field, formType))
	assert.Equal(h, 200, post("/form", field, formType+"; charset=utf-8"))
	assert.Equal(h, 403, post("/form", "csrf_token="+token+"&csrf_token="+token, formType), "twice")
	assert.Equal(h, 403, post("/form", field, "Content-Type: text/plain"))
	assert.Equal(h, 403, post("/form?csrf_token="+token, "", formType), "never from the address")
	assert.Equal(h, 403, post("/form?csrf_token="+token, "x=y", formType), "never from the address")
	assert.Equal(h, 403, post("/form", field, formType, "X-CSRF-Token: x"), "a wrong header is not made good by the form")

	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	require.NoError(h, w.WriteField("csrf_token", token))
	require.NoError(h, w.Close())
	assert.Equal(h, 200, post("/form", form.String(), "Content-Type: "+w.FormDataContentType()))
	for _, query := range []string{"?tags=a;b", "?a=%zz"} {
		assert.Equal(h, 200, post("/form"+query, field, formType), "%s: a query that is none says nothing of the form", query)
		assert.Equal(h, 200, post("/form"+query, form.String(), "Content-Type: "+w.FormDataContentType()), "%s, multipart", query)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write(form.Bytes())
	require.NoError(h, err)
	require.NoError(h, z.Close())
	assert.Equal(h, 403, post("/form", packed.String(), "Content-Type: "+w.FormDataContentType(), "Content-Encoding: gzip"), "a compressed form is not expanded")
}
