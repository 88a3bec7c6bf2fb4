package linear

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/coatcheck/coatcheck"
)

const cookieName = "__Host-coatcheck"

// token is what a client holds: the cookie's value, and what the model calls it.
type token struct{ text, handle, id string }

func newToken(text string) (token, error) {
	t, ok := coatcheck.ParseToken([]byte(text))
	if !ok {
		return token{}, fmt.Errorf("%d characters that are no token", len(text))
	}
	return token{text, t.Key().Handle().String(), t.ID().String()}, nil
}

// client sends requests, one at a time, and records them as the steps of the model.
type client struct {
	number  int
	round   *round
	http    *http.Client
	history []porcupine.Operation
}

// exchange is one request and its answer.
type exchange struct {
	op      int
	carried token
	began   time.Time
	ended   time.Time
	checked time.Time // a login's credentials, after its mark was read and before the session is created
	status  int
	body    []byte
	sent    token // of its Set-Cookie

	challenge string // that a device must sign
}

// ask sends a request. What is no HTTP answer is an error: nothing here may break a connection.
func (c *client) ask(method, at string, carried token, body string) (*exchange, error) {
	return c.send(method, at, carried, body, nil)
}

func (c *client) send(method, at string, carried token, body string, head map[string]string) (*exchange, error) {
	x := &exchange{op: int(c.round.ops.Add(1)), carried: carried}
	req, err := http.NewRequestWithContext(context.Background(), method, at, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if carried.text != "" {
		req.Header.Set("Cookie", cookieName+"="+carried.text)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range head {
		req.Header.Set(name, value)
	}
	x.began = time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	x.body, err = io.ReadAll(resp.Body)
	x.ended = time.Now()
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	switch x.status = resp.StatusCode; x.status {
	case 200, 204, 401, 404, 503:
	case 400, 403, 409: // of a device
		if !strings.HasPrefix(req.URL.Path, "/auth/dbsc/") {
			return nil, fmt.Errorf("%s %s: %s", method, req.URL.Path, resp.Status)
		}
	default:
		return nil, fmt.Errorf("%s %s: %s", method, req.URL.Path, resp.Status)
	}
	if x.challenge = challengeOf(resp.Header); x.challenge != "" {
		c.round.devices.learn(x.challenge)
	}
	if line := resp.Header.Get("Set-Cookie"); line != "" {
		value, _, _ := strings.Cut(strings.TrimPrefix(line, cookieName+"="), ";")
		if value != "" {
			if x.sent, err = newToken(value); err != nil {
				return nil, err
			}
			c.round.learn(x.sent)
		}
	}
	return x, nil
}

// record adds a step of a request to the history.
func (c *client) record(x *exchange, in input, out output) {
	in.op, in.handle, in.id = x.op, x.carried.handle, x.carried.id
	in.at = span{x.began.UnixMilli(), x.ended.UnixMilli()}
	if out.status == 0 && in.kind != kindOpen {
		out.status = x.status
	}
	if x.sent.text != "" {
		out.handle, out.to = x.sent.handle, x.sent.id
	}
	ret := int64(x.ended.Sub(c.round.began))
	if x.status == http.StatusServiceUnavailable && !c.round.settled {
		ret = math.MaxInt64 // what was not answered may still be on its way
	}
	call := int64(x.began.Sub(c.round.began))
	if checked := int64(x.checked.Sub(c.round.began)); !x.checked.IsZero() {
		switch in.kind {
		case kindOpen, kindMark:
			ret = checked
		default:
			call = checked
		}
	}
	c.history = append(c.history, porcupine.Operation{ClientId: c.number, Input: in, Output: out, Call: call, Return: ret})
}

// view is the answer of login, me and refresh.
type view struct {
	User      *string `json:"user_id"`
	Refreshed bool    `json:"refreshed"`
	ID        *string `json:"session_id"`
}

func (x *exchange) view() (out output, err error) {
	var v view
	if x.status == http.StatusOK {
		err = json.Unmarshal(x.body, &v)
	}
	if v.User != nil && v.ID != nil {
		out.user, out.id, out.refreshed = *v.User, *v.ID, v.Refreshed
	}
	return out, err
}

func (c *client) me(at node, carried token) error {
	x, err := c.ask("GET", at.public+"/auth/me", carried, "")
	if err != nil || x.status == http.StatusServiceUnavailable {
		return err // a read that failed tells nothing
	}
	out, err := x.view()
	c.record(x, input{kind: kindMe}, out)
	c.noteFirstUse(x, out.id != "")
	return err
}

// noteFirstUse is the step that a request with a live token ends with.
func (c *client) noteFirstUse(x *exchange, live bool) {
	if live && x.carried.text != "" {
		c.record(x, input{kind: kindNote}, output{})
	}
}

func (c *client) values(at node, carried token) error {
	x, err := c.ask("GET", at.app+"/values", carried, "")
	if err != nil || x.status == http.StatusServiceUnavailable {
		return err
	}
	out, err := x.valuesOf()
	c.record(x, input{kind: kindRead}, out)
	c.noteFirstUse(x, out.id != "")
	return err
}

func (x *exchange) valuesOf() (output, error) {
	var v valuesAnswer
	if x.status != http.StatusOK {
		return output{}, nil
	}
	err := json.Unmarshal(x.body, &v)
	return output{user: v.User, id: v.ID, values: v.Values, dropped: v.Dropped}, err
}

func (c *client) set(at node, carried token) error {
	in := input{kind: kindSet, name: [...]string{"x", "y"}[rand.IntN(2)], value: fmt.Sprint(rand.IntN(1 << 30))}
	path := "/set?name=" + in.name + "&value=" + in.value
	in.value = `"` + in.value + `"`
	if rand.IntN(2) == 0 {
		in = input{kind: kindCount, name: "n"}
		path = "/count?name=n"
	}
	x, err := c.ask("POST", at.app+path, carried, "")
	if err != nil {
		return err
	}
	out, err := x.valuesOf()
	c.record(x, in, out)
	return err
}

func (c *client) refresh(at node, carried token) error {
	x, err := c.ask("POST", at.public+"/auth/refresh", carried, "")
	if err != nil {
		return err
	}
	out, err := x.view()
	c.record(x, input{kind: kindRefresh}, out)
	return err
}

func (c *client) logout(at node, carried token) error {
	x, err := c.ask("POST", at.public+"/auth/logout", carried, "")
	if err != nil {
		return err
	}
	if carried.text != "" {
		c.record(x, input{kind: kindOpen}, output{})
		c.record(x, input{kind: kindLogout}, output{})
	}
	return nil
}

func (c *client) login(at node, carried token, user string) error {
	password := crand.Text()
	x, err := c.ask("POST", at.public+"/auth/login", carried, fmt.Sprintf(`{"user_id":%q,"password":%q}`, user, password))
	if err != nil {
		return err
	}
	x.checked = at.desk.when(password)
	out, err := x.view()
	out.challenge = x.challenge
	if carried.text != "" {
		c.record(x, input{kind: kindOpen, user: user}, output{})
	}
	steps := []kind{kindMark, kindCreate}
	if carried.text != "" {
		steps = append(steps, kindLeave)
		if x.status == http.StatusUnauthorized {
			steps = append(steps, kindFinish)
		}
	}
	if x.status == http.StatusServiceUnavailable {
		steps = append(steps, kindUndo)
	}
	for i, k := range steps {
		c.record(x, input{kind: k, user: user, last: i == len(steps)-1}, out)
	}
	return err
}

// endOne ends one of the caller's sessions by its handle.
func (c *client) endOne(at node, carried token, target string) error {
	x, err := c.ask("DELETE", at.public+"/auth/sessions/"+target, carried, "")
	if err != nil {
		return err
	}
	if x.status == http.StatusUnauthorized {
		c.record(x, input{kind: kindOpen, last: true}, output{status: 401})
		return nil
	}
	c.record(x, input{kind: kindOpen}, opened(x))
	c.record(x, input{kind: kindEndOne, target: target}, output{})
	c.noteFirstUse(x, x.status != http.StatusServiceUnavailable)
	return nil
}

// opened is what the first step of a request for users has found, where the request was not refused.
func opened(x *exchange) output {
	if x.status == http.StatusServiceUnavailable {
		return output{}
	}
	return output{status: 200}
}

func (c *client) endOthers(at node, carried token, everywhere bool) error {
	path := "/auth/sessions"
	if everywhere {
		path += "?current=true"
	}
	x, err := c.ask("DELETE", at.public+path, carried, "")
	if err != nil {
		return err
	}
	first := opened(x)
	if x.status == http.StatusUnauthorized {
		first = output{} // its session may have ended after it was opened
	}
	n, err := x.revoked()
	c.record(x, input{kind: kindOpen}, first)
	c.record(x, input{kind: kindEndOthers, everywhere: everywhere}, output{n: n})
	c.noteFirstUse(x, x.status == http.StatusOK)
	return err
}

func (x *exchange) revoked() (int, error) {
	var v struct {
		Revoked int `json:"revoked"`
	}
	if x.status != http.StatusOK {
		return 0, nil
	}
	err := json.Unmarshal(x.body, &v)
	return v.Revoked, err
}

func (c *client) endUser(at node, user string) error {
	x, err := c.ask("DELETE", at.admin+"/admin/users/"+url.PathEscape(user)+"/sessions", token{}, "")
	if err != nil {
		return err
	}
	n, err := x.revoked()
	c.record(x, input{kind: kindEndUser, user: user}, output{n: n})
	return err
}

func (c *client) adminEnd(at node, user, target string) error {
	x, err := c.ask("DELETE", at.admin+"/admin/users/"+url.PathEscape(user)+"/sessions/"+target, token{}, "")
	if err != nil {
		return err
	}
	c.record(x, input{kind: kindAdminEnd, user: user, target: target}, output{})
	return nil
}

func (c *client) list(at node, user string) error {
	x, err := c.ask("GET", at.admin+"/admin/users/"+url.PathEscape(user)+"/sessions", token{}, "")
	if err != nil || x.status == http.StatusServiceUnavailable {
		return err
	}
	var v struct {
		Sessions []struct {
			Handle string `json:"handle"`
			ID     string `json:"session_id"`
		} `json:"sessions"`
	}
	if err := json.Unmarshal(x.body, &v); err != nil {
		return err
	}
	out := output{sessions: make(map[string]string)}
	for _, s := range v.Sessions {
		out.sessions[s.Handle] = s.ID
	}
	c.record(x, input{kind: kindList, user: user}, out)
	return nil
}
