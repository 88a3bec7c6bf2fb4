package coatcheck_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck"
)

// The bytes of a binding, by other code than binding.go's. Version 2 is written only where there is something to bind.
func TestBindingIsEncoded(t *testing.T) {
	w := newWorld(t)
	assert.Equal(t, byte(0xC1), w.data.raw(key(t, w.login("plain")))[0])

	token, c := w.offered("u")
	k := key(t, token)
	extension := func() []byte {
		raw := w.data.raw(k)
		require.Equal(t, byte(0xC2), raw[0])
		at := extensionAt(raw)
		return raw[at+2 : at+2+int(raw[at])<<8+int(raw[at+1])]
	}
	assert.Equal(t, part(1, "\x00"+string(c[:])), extension())
	assert.False(t, w.record(token).Bound())

	a, err := w.bind(token, aKey, c)
	require.NoError(t, err)
	next := func() string {
		r, err := w.named(token)
		require.NoError(t, err)
		_, c, err := r.DeviceKey()
		require.NoError(t, err)
		return string(c[:])
	}
	at := func() string { return string(millis(w.clock.Now())) }
	first := next()
	assert.NotEqual(t, string(c[:]), first)
	boundAt := at()
	assert.Equal(t, part(1, "\x01"+first+boundAt+string(aKey.Bytes)+string(c[:])), extension())
	assert.True(t, w.record(token).Bound())
	w.use(a.token)
	assert.Equal(t, part(1, "\x81"+first+boundAt+string(aKey.Bytes)), extension(), "used")

	w.clock.Step(time.Minute)
	w.prove(token)
	assert.NotEqual(t, first, next())
	assert.Equal(t, part(1, "\x81"+next()+at()+string(aKey.Bytes)), extension())
	assert.Equal(t, w.clock.Now().UnixMilli(), w.record(token).ProvedAt().UnixMilli())
	assert.Zero(t, w.record(w.login("plain")).ProvedAt())
}

func millis(t time.Time) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(t.UnixMilli() >> (56 - 8*i))
	}
	return b
}

// A part of a later release is kept, before and after the binding.
func TestBindingKeepsOtherParts(t *testing.T) {
	w := newWorld(t)
	token, c := w.offered("u")
	k := key(t, token)
	raw := w.data.raw(k)
	at := extensionAt(raw)
	mine := raw[at+2 : at+2+int(raw[at+1])]
	before, after := part(0, "before"), part(9, "after")
	parts := slices.Concat(before, mine, after)
	w.data.put(k, slices.Concat(raw[:at], []byte{0, byte(len(parts))}, parts, raw[at+2+len(mine):]))
	check := func() {
		t.Helper()
		raw := w.data.raw(k)
		at := extensionAt(raw)
		parts := raw[at+2 : at+2+int(raw[at])<<8+int(raw[at+1])]
		assert.True(t, bytes.HasPrefix(parts, before))
		assert.True(t, bytes.HasSuffix(parts, after))
	}
	a, err := w.bind(token, aKey, c)
	require.NoError(t, err)
	check()
	w.use(a.token)
	check()
	w.prove(token)
	check()
}

func TestDamagedBindings(t *testing.T) {
	raw := encode(t, example())
	c, at, k := string(make([]byte, 16)), string(make([]byte, 8)), string(make([]byte, 33))
	for name, tt := range map[string]struct {
		content string
		ok      bool
	}{
		"offered": {"\x00" + c, true}, "offered, with more": {"\x00" + c + at, false}, "used and not bound": {"\x80" + c, false}, "empty": {"", false},
		"bound": {"\x01" + c + at + k + c, true}, "bound without its challenge": {"\x01" + c + at + k, false},
		"used": {"\x81" + c + at + k, true}, "used, with a challenge": {"\x81" + c + at + k + c, false}, "a key cut": {"\x81" + c + at + k[1:], false},
		"RSA": {"\x82" + c + at + string(make([]byte, 256)), true}, "RSA cut": {"\x82" + c + at + k, false}, "another algorithm": {"\x83" + c + at + k, false},
		"no time": {"\x81" + c, false},
	} {
		err := new(coatcheck.Record).Read(someKey, extended(raw, part(1, tt.content)))
		if tt.ok {
			assert.NoError(t, err, name)
		} else {
			assert.ErrorIs(t, err, coatcheck.ErrDamaged, name)
		}
	}
}

// The largest of everything fits a record.
func TestBindingFits(t *testing.T) {
	w := newWorld(t)
	r := w.open()
	r.OfferBinding()
	require.NoError(t, r.Authenticate(string(bytes.Repeat([]byte("u"), 256))))
	require.NoError(t, r.Insert("n", string(bytes.Repeat([]byte("v"), 3066))))
	token := w.finish(r).token
	_, c, _ := r.Offered()
	a, err := w.bind(token, coatcheck.PublicKey{Algorithm: coatcheck.RS256, Bytes: bytes.Repeat([]byte{9}, 256)}, c)
	require.NoError(t, err)
	assert.NotEmpty(t, w.user(a.token))
}
