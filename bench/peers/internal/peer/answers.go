package peer

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// Answer is a recorded response: what a twin of coatcheck, which does no session work, answers to every request.
type Answer struct {
	Status  int         `json:"status"`
	Headers [][2]string `json:"headers"` // without Date and Content-Length, which the server makes
	Body    string      `json:"body"`
}

// AnswersVariable is the environment variable that names the file of answers, by method and path: "GET /auth/me".
const AnswersVariable = "PEER_ANSWERS"

// Answers reads the recorded responses.
func Answers() map[string]*Canned {
	data, err := os.ReadFile(os.Getenv(AnswersVariable))
	Must(err)
	var answers map[string]Answer
	Must(json.Unmarshal(data, &answers))
	canned := make(map[string]*Canned, len(answers))
	for route, a := range answers {
		canned[route] = can(a)
	}
	return canned
}

// Canned is an answer in the form that is fastest to send.
type Canned struct {
	status      int
	contentType []byte
	headers     [][2][]byte
	setCookie   string
	body        []byte

	header http.Header // all of the headers, for net/http
}

func can(a Answer) *Canned {
	c := &Canned{status: a.Status, body: []byte(a.Body), header: http.Header{}}
	for _, h := range a.Headers {
		c.header.Add(h[0], h[1])
		switch h[0] {
		case fasthttp.HeaderContentType:
			c.contentType = []byte(h[1])
		case fasthttp.HeaderSetCookie:
			c.setCookie = h[1]
		default:
			c.headers = append(c.headers, [2][]byte{[]byte(h[0]), []byte(h[1])})
		}
	}
	return c
}

// Write makes the response, with the same calls that coatcheck makes.
func (c *Canned) Write(r *fasthttp.Response) {
	c.WriteHead(r)
	if c.setCookie != "" {
		r.Header.Add(fasthttp.HeaderSetCookie, c.setCookie)
	}
	r.SetBody(c.body)
}

// WriteHead makes the status and the headers, without a cookie.
func (c *Canned) WriteHead(r *fasthttp.Response) {
	r.SetStatusCode(c.status)
	if c.contentType != nil {
		r.Header.SetContentTypeBytes(c.contentType)
	}
	for i := range c.headers {
		r.Header.SetCanonical(c.headers[i][0], c.headers[i][1])
	}
}

// ServeHTTP answers a request to net/http. The values of the headers are shared by all responses; net/http does not change them.
func (c *Canned) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	for name, values := range c.header {
		header[name] = values
	}
	w.WriteHeader(c.status)
	_, _ = w.Write(c.body) // the client is gone
}

// Bytes is the whole response, with the date of now.
func (c *Canned) Bytes() []byte {
	var r fasthttp.Response
	c.Write(&r)
	r.Header.SetNoDefaultContentType(true)
	r.Header.Set(fasthttp.HeaderDate, time.Now().UTC().Format(http.TimeFormat))
	var b bytes.Buffer
	_, err := r.WriteTo(&b)
	Must(err)
	return b.Bytes()
}

// Header is the headers of the answer, without Date and Content-Length.
func (c *Canned) Header() http.Header { return c.header }

// AppendAnonymous appends what coatcheck answers to GET /auth/me without a session.
func AppendAnonymous(b []byte) []byte {
	return append(b, `{"authenticated":false,"user_id":null,"refreshed":false,"session_id":null}`...)
}

// AppendView appends what it answers with one. The user ID needs no escapes.
func AppendView(b []byte, user, id string, refreshed bool) []byte {
	b = append(b, `{"authenticated":true,"user_id":"`...)
	b = append(b, user...)
	b = append(b, `","refreshed":`...)
	b = strconv.AppendBool(b, refreshed)
	b = append(b, `,"session_id":"`...)
	b = append(b, id...)
	return append(b, `"}`...)
}
