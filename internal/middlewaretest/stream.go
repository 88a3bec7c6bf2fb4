package middlewaretest

import (
	"errors"
	"fmt"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/internal/httpcontract"
)

// streamRules are the rules about handlers that send the header, and a part of the body, before they return.
var streamRules = []rule{
	{"what was changed before the header is committed before it", checkCommittedBeforeHeader},
	{"a commit that fails before the header is 503", checkHeaderNotSent},
	{"values that change after the header are committed without a cookie", checkAfterHeader},
	{"what needs a cookie after the header is an error", checkTooLate},
}

func checkCommittedBeforeHeader(h *harness) {
	handlers := with(basics)
	sent, goOn := make(chan struct{}), make(chan struct{})
	handlers["/stream"] = func(c Context) error {
		err := c.Session().Insert("a", "early")
		c.Write("begin ")
		c.Flush()
		sent <- struct{}{}
		<-goOn
		c.Write("end")
		return err
	}
	h.app(handlers)
	token := h.begin("u")
	answers := make(chan response, 1)
	go func() {
		resp, _ := h.Wire.Send(request{Method: "GET", Path: "/stream", Head: []string{h.Cookie(token)}})
		answers <- resp
	}()
	<-sent
	assert.Equal(h, `"early"`, h.value("a", token), "another request sees it while the first goes on")
	goOn <- struct{}{}
	resp := <-answers
	assert.Equal(h, "begin end", resp.Body)
	assert.Equal(h, token, h.Token(resp))
}

func checkHeaderNotSent(h *harness) {
	handlers := with(basics)
	handlers["/stream"] = func(c Context) error {
		err := c.Session().Insert("a", 1)
		c.SetHeader("X-Secret", "yes")
		c.Status(201)
		c.Write("begin ")
		c.Flush()
		c.Write("end")
		return err
	}
	h.app(handlers)
	token := h.begin("u")
	h.Store.Failing(httpcontract.ErrLost, httpcontract.OpSwap)
	resp := h.Post("/stream", h.Cookie(token))
	h.Store.On(nil)
	assert.Equal(h, answer{Status: 503, Code: "store_unavailable"}, h.Answer(resp))
	httpcontract.CheckProblem(h.T, resp)
	assert.NotContains(h, resp.Header, "X-Secret")
	assert.NotContains(h, resp.Body, "end", "what the handler writes after that is dropped")
	assert.Empty(h, h.value("a", token))
}

func checkAfterHeader(h *harness) {
	handlers := with(basics)
	handlers["/stream"] = func(c Context) error {
		c.Write("begin ")
		c.Flush()
		err := c.Session().Insert("a", "late")
		c.Write("end")
		return err
	}
	h.app(handlers)
	token := h.begin("u")
	resp := h.Post("/stream", h.Cookie(token))
	assert.Equal(h, answer{Status: 200}, h.Answer(resp))
	assert.Equal(h, "begin end", resp.Body)
	require.Eventually(h, func() bool { return h.value("a", token) == `"late"` }, httpcontract.Patience, httpcontract.Patience/1000, "the end of the request may be seen first")
}

func checkTooLate(h *harness) {
	handlers := with(basics)
	late := func(f func(s *coatcheck.Session, c Context) error) Handler {
		return func(c Context) error {
			c.Write("begin ")
			c.Flush()
			c.Write(fmt.Sprint(errors.Is(f(c.Session(), c), coatcheck.ErrHeaderSent)))
			return nil
		}
	}
	handlers["/late/login"] = late(func(s *coatcheck.Session, _ Context) error { return s.Authenticate("v") })
	handlers["/late/set"] = late(func(s *coatcheck.Session, _ Context) error { return s.Insert("a", 1) })
	handlers["/late/rotate"] = late(func(s *coatcheck.Session, c Context) error {
		s.Rotate()
		return s.Commit(c.Context())
	})
	handlers["/late/cycle"] = late(func(s *coatcheck.Session, c Context) error {
		s.CycleID()
		return s.Commit(c.Context())
	})
	h.app(handlers)
	token := h.begin("u")
	creates := h.Store.Calls(httpcontract.OpCreate)
	for path, line := range map[string]string{
		"/late/login": h.Cookie(token), "/late/rotate": h.Cookie(token), "/late/cycle": h.Cookie(token), "/late/set": "X-None: a session would begin",
	} {
		resp := h.Post(path, line)
		assert.Equal(h, answer{Status: 200}, h.Answer(resp), path)
		assert.Equal(h, "begin true", resp.Body, path)
	}
	assert.Equal(h, creates, h.Store.Calls(httpcontract.OpCreate), "nothing begins that the client cannot come back to")
	assert.Equal(h, "u", h.who(token))
}
