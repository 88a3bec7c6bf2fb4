package coatcheck

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
)

// change is one value that a request set (value), removed (neither) or computed from the one before (update).
type change struct {
	name   string
	value  []byte
	update func(old []byte) ([]byte, error)
}

// change applies c to the values that readers see, and keeps it for the commit.
func (s *Session) change(c change) error {
	r := s.lock()
	if r == nil {
		return ErrDetached
	}
	defer s.unlock()
	if r.sent && !r.live && !r.login {
		return ErrHeaderSent
	}
	return r.change(c)
}

func (r *Request) change(c change) error {
	if c.name == claimsName {
		return fmt.Errorf("value name %q is reserved for the login's claims: %w", c.name, ErrName)
	}
	value := c.value
	if c.update != nil {
		old, _, _, _ := findValue(r.values, c.name)
		var err error
		if value, err = c.update(old); err != nil {
			return err
		}
	}
	values, err := setValue(r.ownValues(), c.name, value, MaxValues)
	if err != nil {
		return err
	}
	r.values, r.scratch = values, values
	for i := range r.changes {
		if r.changes[i].name == c.name {
			r.changes[i] = r.changes[i].then(c, value)
			return nil
		}
	}
	r.changes = append(r.changes, c)
	return nil
}

// then returns the one change that c and a later one of the same name amount to.
func (c change) then(later change, value []byte) change {
	switch {
	case later.update == nil:
		return later
	case c.update == nil: // the earlier one fixed the value, so the later one's result is fixed too
		return change{name: c.name, value: value}
	default:
		first, second := c.update, later.update
		return change{name: c.name, update: func(old []byte) ([]byte, error) {
			mid, err := first(old)
			if err != nil {
				return nil, err
			}
			return second(mid)
		}}
	}
}

// ownValues returns the values in a buffer that is the request's, not the record's.
func (r *Request) ownValues() []byte {
	if len(r.changes) == 0 {
		r.scratch = append(r.scratch[:0], r.values...)
		return r.scratch
	}
	return r.values
}

// rebuild applies the request's changes once more, to the values of the record that the session now stands on. On an
// error the session is as it was.
func (r *Request) rebuild() error {
	if len(r.changes) == 0 {
		values := r.baseValues()
		if len(values) > MaxValues { // the claims of a login beside the values of the session that it carried
			return valuesTooLarge(values)
		}
		r.values = values
		return nil
	}
	block := bytes.Clone(r.baseValues())
	for _, c := range r.changes {
		value := c.value
		if c.update != nil {
			old, _, _, _ := findValue(block, c.name)
			var err error
			if value, err = c.update(old); err != nil {
				return err
			}
		}
		// Without the limit: the changes stand in another order than the handler made them, so that one which makes room may follow.
		var err error
		if block, err = setValue(block, c.name, value, math.MaxInt); err != nil {
			return err
		}
	}
	if len(block) > MaxValues {
		return valuesTooLarge(block)
	}
	r.values = block
	return nil
}

func valuesTooLarge(block []byte) error {
	return fmt.Errorf("%w: the session's values would take %d bytes of at most %d", ErrTooLarge, len(block), MaxValues)
}

// baseValues are those that the request's changes apply to: none after a Clear, or where a login leaves another user's session.
// The claims among them are the login's, and else the session's, which no Clear takes away.
func (r *Request) baseValues() []byte {
	var base []byte
	if r.live && (!r.login || len(r.rec.user) == 0 || string(r.rec.user) == r.user) {
		base = r.rec.values
	}
	claims, start, end, had := findValue(base, claimsName)
	if !r.login && (had || !r.cleared) {
		if r.cleared {
			return base[start:end:end]
		}
		return base
	}
	if r.cleared {
		base, had = nil, false
	}
	if r.login {
		claims = r.claims
	}
	if claims == nil && !had {
		return base
	}
	block, _ := setValue(bytes.Clone(base), claimsName, claims, math.MaxInt) // a valid name, and no limit
	return block
}

// Get returns a value of the session as a T. ErrNoValue: there is none. ErrDetached: the session is detached. Any other
// error: the value is not a T. A nil is stored as JSON's null, which is the zero value of every T that does not decode itself.
// A number within an any is a json.Number. Reading a string or a bool allocates nothing beyond the value.
func Get[T any](s *Session, name string) (T, error) {
	var zero T
	r := s.read()
	defer s.unlock()
	raw, _, _, ok := findValue(r.values, name)
	switch {
	case r == &nothing:
		return zero, ErrDetached
	case !ok:
		return zero, ErrNoValue
	}
	switch any(zero).(type) {
	case bool:
		if string(raw) == "true" {
			return any(true).(T), nil
		}
		if string(raw) == "false" {
			return zero, nil
		}
	case string:
		if text, ok := plainString(raw); ok {
			return any(string(text)).(T), nil
		}
	}
	return decode[T](name, raw)
}

// Pop is Get, and also removes the value, such as a message to show once ("flash"). After an error the value stays. Two
// concurrent requests may both get it.
func Pop[T any](s *Session, name string) (T, error) {
	v, err := Get[T](s, name)
	if err == nil {
		s.Remove(name)
	}
	return v, err
}

// decode is apart from Get because its result escapes to the heap.
func decode[T any](name string, raw []byte) (T, error) {
	var v T
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // a large integer keeps its digits in an any
	err := d.Decode(&v)
	if err == nil && len(bytes.TrimSpace(raw[d.InputOffset():])) > 0 {
		err = errors.New("more than one JSON value")
	}
	if err != nil {
		var zero T
		return zero, fmt.Errorf("session value %.40q: %w", name, err)
	}
	return v, nil
}

// encode returns the JSON of a value. It does not escape for HTML, so that "&" takes one byte of the session's, not six.
func encode(name string, value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, fmt.Errorf("session value %.40q: %w", name, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// plainString returns the inside of a JSON string without escapes.
func plainString(raw []byte) ([]byte, bool) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return nil, false
	}
	text := raw[1 : len(raw)-1]
	for _, c := range text {
		if c == '\\' || c == '"' || c < 0x20 || c >= 0x80 {
			return nil, false
		}
	}
	return text, true
}

// Update sets a value to the result of f for the previous value, or for the zero T if there is none. When another request
// changed the session meanwhile, Commit runs f again on the current value, so that no update is lost; f must therefore have
// no effect but its result, and what it uses must not change meanwhile: of a string of Fiber's it needs a copy. If it panics
// then, the commit writes nothing, also where the application recovers; as after any error of a login's commit, the session that
// it was to replace may have ended. A stored value that is not a T is an error and stays.
func Update[T any](s *Session, name string, f func(T) T) error {
	name = strings.Clone(name)
	return s.change(change{name: name, update: func(old []byte) ([]byte, error) {
		var v T
		if old != nil {
			var err error
			if v, err = decode[T](name, old); err != nil {
				return nil, err
			}
		}
		return encode(name, f(v))
	}})
}
