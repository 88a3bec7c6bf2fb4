package fibersession_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/fibersession"
	"github.com/coatcheck/coatcheck/shardstore"
)

func csrfKey(c string) []byte { return []byte("canary-csrf-key-" + strings.Repeat(c, 32)) }

func newCSRF(t *testing.T, keys ...[]byte) fibersession.CSRF {
	t.Helper()
	c, err := fibersession.NewCSRF(keys...)
	require.NoError(t, err)
	return c
}

// formApp is an application with a form: GET /in/:user logs in, GET /form answers with a token, POST /form wants one.
func formApp(t *testing.T) (send func(c fibersession.CSRF, method, path, cookie string, head map[string]string, body string) reply) {
	t.Helper()
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	return func(c fibersession.CSRF, method, path, cookie string, head map[string]string, body string) reply {
		t.Helper()
		app := fiber.New(fiber.Config{DisableStartupMessage: true})
		sessions, err := fibersession.New(store, fibersession.Config{})
		require.NoError(t, err)
		app.Use(sessions)
		app.Get("/in/:user", func(c *fiber.Ctx) error { return fibersession.Get(c).Authenticate(strings.Clone(c.Params("user"))) })
		app.Use(c.Check)
		app.Get("/form", func(ctx *fiber.Ctx) error { return ctx.SendString(c.Token(fibersession.Get(ctx))) })
		app.Get("/rotate", func(ctx *fiber.Ctx) error { fibersession.Get(ctx).Rotate(); return nil })
		app.All("/form", func(ctx *fiber.Ctx) error { return ctx.SendString("done") })
		req := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		if cookie != "" {
			req.Header.Set("Cookie", cookie)
		}
		for name, value := range head {
			req.Header.Set(name, value)
		}
		resp, err := app.Test(req, -1)
		require.NoError(t, err)
		page, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return reply{resp.StatusCode, string(page), resp.Cookies()}
	}
}

// reply is what the application answered.
type reply struct {
	status  int
	text    string
	cookies []*http.Cookie
}

func cookieOf(t *testing.T, r reply) string {
	t.Helper()
	require.Len(t, r.cookies, 1)
	return r.cookies[0].Name + "=" + r.cookies[0].Value
}

// CSR-04.
func TestCSRF(t *testing.T) {
	send := formApp(t)
	c := newCSRF(t, csrfKey("a"))
	a, b := cookieOf(t, send(c, "GET", "/in/a", "", nil, "")), cookieOf(t, send(c, "GET", "/in/b", "", nil, ""))
	token := send(c, "GET", "/form", a, nil, "").text
	other := send(c, "GET", "/form", a, nil, "").text
	require.Regexp(t, `^[A-Za-z0-9_-]{64}$`, token)
	assert.NotEqual(t, token, other)
	post := func(cookie, token string) int {
		return send(c, "POST", "/form", cookie, map[string]string{"X-CSRF-Token": token}, "").status
	}
	assert.Equal(t, 200, post(a, token))
	assert.Equal(t, 200, post(a, other), "each is good until the session ends")
	assert.Equal(t, 403, post(b, token), "A's token in B's session")
	assert.Equal(t, 403, post("", token), "without a session")
	assert.Equal(t, 403, post(a, ""))
	for i := range len(token) {
		changed := []byte(token)
		changed[i] ^= 1
		assert.Equal(t, 403, post(a, string(changed)), i)
	}
	for _, variant := range []string{token + "=", token + "A", " ", token[:63], strings.ToUpper(token), token + token} {
		assert.Equal(t, 403, post(a, variant), variant)
	}
	assert.Equal(t, 200, post(cookieOf(t, send(c, "GET", "/rotate", a, nil, "")), token), "a refresh keeps open forms")
	again := cookieOf(t, send(c, "GET", "/in/a", a, nil, ""))
	assert.Equal(t, 403, post(again, token), "a login begins another session")
}

// A cookie that somebody planted, whatever its name and value, is neither believed nor kept.
func TestCSRFPlantedCookie(t *testing.T) {
	send := formApp(t)
	c := newCSRF(t, csrfKey("a"))
	victim, attacker := cookieOf(t, send(c, "GET", "/in/victim", "", nil, "")), cookieOf(t, send(c, "GET", "/in/attacker", "", nil, ""))
	token := send(c, "GET", "/form", attacker, nil, "").text
	for _, name := range []string{"csrf_token", "csrf", "_csrf", "__Host-csrf", "X-CSRF-Token"} {
		planted := victim + "; " + name + "=" + token
		assert.Equal(t, 403, send(c, "POST", "/form", planted, map[string]string{"X-CSRF-Token": token}, "").status, name)
		assert.Equal(t, 403, send(c, "POST", "/form", planted, nil, "").status, name)
		page := send(c, "GET", "/form", planted, nil, "")
		assert.Empty(t, page.cookies)
		assert.NotEqual(t, token, page.text)
	}
}

func TestCSRFForms(t *testing.T) {
	send := formApp(t)
	c := newCSRF(t, csrfKey("a"))
	cookie := cookieOf(t, send(c, "GET", "/in/a", "", nil, ""))
	token := send(c, "GET", "/form", cookie, nil, "").text
	post := func(contentType, body string) int {
		return send(c, "POST", "/form", cookie, map[string]string{"Content-Type": contentType}, body).status
	}
	const urlencoded = "application/x-www-form-urlencoded"
	assert.Equal(t, 200, post(urlencoded, url.Values{"csrf_token": {token}, "x": {"y"}}.Encode()))
	assert.Equal(t, 403, post(urlencoded, "csrf_token="+token+"&csrf_token="+token), "twice")
	assert.Equal(t, 403, post("text/plain", "csrf_token="+token))
	assert.Equal(t, 403, send(c, "POST", "/form?csrf_token="+token, cookie, nil, "").status, "never from the address")
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	require.NoError(t, w.WriteField("csrf_token", token))
	require.NoError(t, w.Close())
	assert.Equal(t, 200, post(w.FormDataContentType(), form.String()))
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write(form.Bytes())
	require.NoError(t, err)
	require.NoError(t, z.Close())
	assert.Equal(t, 403, send(c, "POST", "/form", cookie, map[string]string{"Content-Type": w.FormDataContentType(), "Content-Encoding": "gzip"},
		packed.String()).status, "a compressed form is not expanded")
	for _, method := range []string{"PUT", "PATCH", "DELETE", "POST"} {
		assert.Equal(t, 403, send(c, method, "/form", cookie, nil, "").status, method)
	}
	assert.Equal(t, 200, send(c, "HEAD", "/form", cookie, nil, "").status)
}

// A form of more than 1 MiB is not parsed: one of many small fields takes a hundred times its own memory.
func TestCSRFLargeForm(t *testing.T) {
	send := formApp(t)
	c := newCSRF(t, csrfKey("a"))
	cookie := cookieOf(t, send(c, "GET", "/in/a", "", nil, ""))
	token := send(c, "GET", "/form", cookie, nil, "").text
	form := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	body := func(n int) string { return "csrf_token=" + token + strings.Repeat("&a", n) }
	assert.Equal(t, 200, send(c, "POST", "/form", cookie, form, body(1000)).status)
	assert.Equal(t, 403, send(c, "POST", "/form", cookie, form, body(1<<19)).status)
}

// endless is a body that counts how much of it was read.
type endless struct{ read int }

func (b *endless) Read(p []byte) (int, error) {
	b.read += len(p)
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// streamed returns, of an application that hands on bodies before they have come, the cookie of a session, and a function that
// sends a body to its Check and returns the answer's status. A body of length -1 announces none.
func streamed(t *testing.T) (cookie string, send func(cookie, contentType string, body io.Reader, length int) int) {
	t.Helper()
	store, err := shardstore.New(shardstore.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, store.Close()) })
	app := fiber.New(fiber.Config{DisableStartupMessage: true, StreamRequestBody: true})
	sessions, err := fibersession.New(store, fibersession.Config{})
	require.NoError(t, err)
	app.Use(sessions)
	app.Get("/in", func(c *fiber.Ctx) error { return fibersession.Get(c).Authenticate("u") })
	app.Use(newCSRF(t, csrfKey("a")).Check)
	resp, err := app.Test(httptest.NewRequestWithContext(t.Context(), "GET", "/in", http.NoBody), -1)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return cookieOf(t, reply{cookies: resp.Cookies()}), func(cookie, contentType string, body io.Reader, length int) int {
		var c fasthttp.RequestCtx
		c.Init(new(fasthttp.Request), nil, nil)
		c.Request.Header.SetMethod("POST")
		c.Request.SetRequestURI("/form")
		c.Request.Header.Set("Cookie", cookie)
		c.Request.Header.SetContentType(contentType)
		c.Request.SetBodyStream(body, length)
		app.Handler()(&c)
		return c.Response.StatusCode()
	}
}

// CASES A18, with StreamRequestBody: who has no session makes the server read nothing, and who has one at most 1 MiB.
func TestCSRFReadsLittle(t *testing.T) {
	cookie, send := streamed(t)
	const urlencoded, multipart = "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"
	for name, tt := range map[string]struct {
		cookie, contentType string
		length, most        int
	}{
		"no session":             {"", urlencoded, 1 << 20, 0},
		"no session, multipart":  {"", multipart, 1 << 20, 0},
		"no session, no length":  {"", urlencoded, -1, 0},
		"a made-up session":      {cookie[:len(cookie)-1], urlencoded, 1 << 20, 0},
		"one of some length":     {cookie, urlencoded, 1 << 20, 1 << 20},
		"multipart of a length":  {cookie, multipart, 1 << 20, 1 << 20},
		"a long one":             {cookie, urlencoded, 1<<20 + 1, 0},
		"multipart, long":        {cookie, multipart, 1<<20 + 1, 0},
		"one of no length":       {cookie, urlencoded, -1, 0},
		"multipart of no length": {cookie, multipart, -1, 0},
		"one of another type":    {cookie, "application/octet-stream", 1 << 20, 0},
	} {
		t.Run(name, func(t *testing.T) {
			all := int64(tt.length)
			if tt.length < 0 {
				all = 1 << 24
			}
			body := new(endless)
			assert.Equal(t, 403, send(tt.cookie, tt.contentType, io.LimitReader(body, all), tt.length))
			assert.LessOrEqual(t, body.read, tt.most)
			assert.Equal(t, tt.most > 0, body.read > 0)
		})
	}
}

// OPS-05: a key is replaced without refusing anything, and taking one out refuses what it signed and nothing else.
func TestCSRFKeyRotation(t *testing.T) {
	send := formApp(t)
	before, both, after := newCSRF(t, csrfKey("a")), newCSRF(t, csrfKey("b"), csrfKey("a")), newCSRF(t, csrfKey("b"))
	cookie := cookieOf(t, send(before, "GET", "/in/a", "", nil, ""))
	post := func(c fibersession.CSRF, token string) int {
		return send(c, "POST", "/form", cookie, map[string]string{"X-CSRF-Token": token}, "").status
	}
	old := send(before, "GET", "/form", cookie, nil, "").text
	fresh := send(both, "GET", "/form", cookie, nil, "").text
	assert.Equal(t, 200, post(both, old))
	assert.Equal(t, 200, post(both, fresh))
	assert.Equal(t, 403, post(before, fresh), "the first key signs")
	assert.Equal(t, 403, post(after, old))
	assert.Equal(t, 200, post(after, fresh))
	assert.Equal(t, 200, send(after, "GET", "/form", cookie, nil, "").status, "nobody is logged out")
}

func TestCSRFMistakes(t *testing.T) {
	_, err := fibersession.NewCSRF()
	require.Error(t, err)
	_, err = fibersession.NewCSRF(csrfKey("a"), []byte("canary-short"))
	require.ErrorContains(t, err, "key 2 has 12 bytes")
	assert.NotContains(t, err.Error(), "canary")
	assert.NotContains(t, fmt.Sprintf("%v %+v %#v %s", newCSRF(t, csrfKey("a")), newCSRF(t, csrfKey("a")), newCSRF(t, csrfKey("a")), newCSRF(t, csrfKey("a"))), "canary")
}

// A form of an application of your own: the page carries the token, and whatever changes something asks for it.
func ExampleCSRF() {
	store, err := shardstore.New(shardstore.Options{})
	if err != nil {
		panic(err)
	}
	defer func() { _ = store.Close() }()
	csrf, err := fibersession.NewCSRF([]byte("at least 32 bytes that only this application knows"))
	if err != nil {
		panic(err)
	}
	sessions, err := fibersession.New(store, fibersession.Config{})
	if err != nil {
		panic(err)
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Use(sessions, csrf.Check)
	app.Get("/settings", func(c *fiber.Ctx) error {
		c.Type("html")
		return c.SendString(`<form method="post"><input type="hidden" name="csrf_token" value="` + csrf.Token(fibersession.Get(c)) + `"></form>`)
	})
	app.Post("/settings", func(c *fiber.Ctx) error { return c.SendString("changed") })

	resp, err := app.Test(httptest.NewRequestWithContext(context.Background(), "POST", "/settings", http.NoBody), -1)
	if err != nil {
		panic(err)
	}
	fmt.Println(resp.StatusCode)
	_ = resp.Body.Close()
	// Output: 403
}
