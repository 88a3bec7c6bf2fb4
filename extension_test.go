package coatcheck_test

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coatcheck/coatcheck"
)

// part encodes a part of an extension, by other code than codec.go's.
func part(kind byte, content string) []byte {
	return append([]byte{kind, byte(len(content) >> 8), byte(len(content))}, content...)
}

// extended returns the encoding of version 2 that raw, one of version 1, becomes by an extension.
func extended(raw, extension []byte) []byte {
	at := extensionAt(raw)
	size := binary.BigEndian.AppendUint16(nil, uint16(len(extension)))
	return slices.Concat([]byte{0xC2}, raw[1:at], size, extension, raw[at:])
}

// extensionAt is the offset in an encoding at which the extension stands, or in version 1 the values.
func extensionAt(raw []byte) int {
	at := 89
	at += 2 + int(binary.BigEndian.Uint16(raw[at:]))
	at += 1 + int(raw[at])
	return at + 2 + int(binary.BigEndian.Uint16(raw[at:]))
}

// valuesAt is the offset in an encoding at which the values stand.
func valuesAt(raw []byte) int {
	at := extensionAt(raw)
	if raw[0] == 0xC2 {
		at += 2 + int(binary.BigEndian.Uint16(raw[at:]))
	}
	return at
}

// noted is the name and value that encode where a session was last seen.
func noted(ip ...byte) []byte { return append([]byte{1, 0xFF, 0, byte(len(ip))}, ip...) }

var (
	others    = slices.Concat(part(2, "public key"), part(7, ""), part(200, "\xFF\x00"))
	elsewhere = netip.MustParseAddr("2001:db8::7")
)

// Version 2 is version 1 with an extension before the values, which is kept byte for byte.
func TestExtensionIsKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParts(t)
		var extension []byte
		kinds := rapid.MapOfN(rapid.Byte().Filter(func(kind byte) bool { return kind != 1 }), rapid.StringN(0, 20, 60), 0, 5).Draw(t, "extension")
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			extension = append(extension, part(kind, kinds[kind])...)
		}
		raw := extended(encode(t, p), extension)

		var rec, next coatcheck.Record
		require.NoError(t, rec.Read(someKey, raw))
		assert.Equal(t, p.header, rec.Header)
		assert.Equal(t, string(p.user), rec.UserID())
		assert.Equal(t, string(p.ip), string(rec.IP().AsSlice()))
		assert.Equal(t, string(p.agent), string(rec.UserAgent()))
		assert.Equal(t, raw, rec.Bytes())
		for name, b := range map[string]coatcheck.Encoded{"version 1": encode(t, p), "version 2": raw} {
			assert.Equal(t, p.header.Version, b.Version(), name)
			assert.Equal(t, rec.Expiry(), b.Expiry(), name)
			assert.Equal(t, p.header.CreatedAt, b.Created(), name)
			assert.Equal(t, p.header.IdleExpiry < p.header.AbsoluteExpiry, b.IdleFirst(), name)
			assert.Equal(t, string(p.user), string(b.User()), name)
		}

		then := drawParts(t)
		require.NoError(t, next.Rewrite(&rec, then.header, then.values))
		then.user, then.ip, then.agent = p.user, p.ip, p.agent
		want := encode(t, then)
		if len(extension) > 0 { // a record without an extension goes back to version 1 when it is rewritten
			want = extended(want, extension)
		}
		assert.Equal(t, want, next.Bytes())
		assert.LessOrEqual(t, len(want), coatcheck.MaxRecord)
	})
}

func TestExtensionBounds(t *testing.T) {
	whole := example()
	whole.user, whole.agent, whole.ip = bytes.Repeat([]byte("u"), 256), bytes.Repeat([]byte("a"), 256), make([]byte, 16)
	whole.values = block(map[string]string{"n": strings.Repeat("1", 3068)})
	tests := map[string]struct {
		extension []byte
		ok        bool
	}{
		"empty":                  {nil, true},
		"one empty part":         {part(0, ""), true},
		"the largest":            {part(2, strings.Repeat("k", 397)), true},
		"beyond the largest":     {part(2, strings.Repeat("k", 398)), false},
		"a kind twice":           {slices.Concat(part(2, "a"), part(2, "b")), false},
		"kinds out of order":     {slices.Concat(part(3, "a"), part(2, "b")), false},
		"half of a length":       {[]byte{2, 0}, false},
		"a part beyond its end":  {[]byte{2, 0, 3, 'a', 'b'}, false},
		"a part that has no end": {[]byte{2, 0xFF, 0xFF}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, p := range []parts{example(), whole, {header: example().header}} {
				err := new(coatcheck.Record).Read(someKey, extended(encode(t, p), tt.extension))
				if tt.ok {
					assert.NoError(t, err)
				} else {
					assert.ErrorIs(t, err, coatcheck.ErrDamaged)
				}
			}
		})
	}
}

func TestTruncatedExtensionIsDamaged(t *testing.T) {
	p := example()
	raw := extended(encode(t, p), others)
	values := len(raw) - len(p.values)
	atPair := map[int]bool{values: true, values + 5: true, values + 5 + 16: true, len(raw): true}
	for n := range len(raw) + 1 {
		err := new(coatcheck.Record).Read(someKey, raw[:n])
		if atPair[n] {
			assert.NoError(t, err, "%d bytes: values end at a pair", n)
		} else {
			assert.ErrorIs(t, err, coatcheck.ErrDamaged, "%d bytes", n)
		}
	}
}

// What the application does with a session leaves the extension and the note alone, and shows it neither.
func TestSessionKeepsExtension(t *testing.T) {
	for name, act := range map[string]func(*testing.T, *world, string){
		"a value": func(t *testing.T, w *world, cookie string) {
			w.do(cookie, func(s *coatcheck.Session) { require.NoError(t, s.Insert("theme", "dark")) })
		},
		"all values removed": func(_ *testing.T, w *world, cookie string) { w.do(cookie, (*coatcheck.Session).Clear) },
		"rotation":           func(_ *testing.T, w *world, cookie string) { w.refresh(cookie) },
		"first use": func(_ *testing.T, w *world, cookie string) {
			w.do(w.refresh(cookie).token, func(*coatcheck.Session) {})
		},
		"change of privilege": func(_ *testing.T, w *world, cookie string) {
			w.do(cookie, (*coatcheck.Session).CycleID)
		},
		"renewal": func(t *testing.T, w *world, cookie string) {
			w.clock.Step(10 * time.Minute)
			s := w.open(cookie)
			w.finish(s)
			assert.Equal(t, 1, s.Report().Renewed)
		},
		"a conflict": func(t *testing.T, w *world, cookie string) {
			slow := w.open(cookie)
			require.NoError(t, slow.Lend().Insert("slow", 1))
			w.do(cookie, func(s *coatcheck.Session) { require.NoError(t, s.Insert("quick", 1)) })
			w.finish(slow)
			assert.Equal(t, 1, slow.Report().Conflicts)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cookie := w.login("u")
			k := key(t, cookie)
			w.data.put(k, append(extended(w.data.raw(k), others), noted(192, 0, 2, 9)...))
			was := w.data.raw(k)
			act(t, w, cookie)
			now := w.data.raw(k)
			require.NotEqual(t, was, now, "it was rewritten")
			assert.Equal(t, byte(0xC2), now[0])
			at := extensionAt(now)
			assert.Equal(t, was[at:at+2+len(others)], now[at:at+2+len(others)])
			assert.True(t, bytes.HasSuffix(now, noted(192, 0, 2, 9)))
		})
	}
}

// The next session of a device begins without the extension of the previous one.
func TestLoginLeavesExtensionBehind(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	k := key(t, cookie)
	w.data.put(k, append(extended(w.data.raw(k), others), noted(192, 0, 2, 9)...))
	again := w.do(cookie, func(s *coatcheck.Session) { require.NoError(t, s.Authenticate("u")) })
	raw := w.data.raw(key(t, again.token))
	assert.Equal(t, byte(0xC1), raw[0])
	assert.False(t, bytes.HasSuffix(raw, noted(192, 0, 2, 9)))
}

func TestLastIP(t *testing.T) {
	p := example()
	raw := encode(t, p)
	began := netip.AddrFrom4([4]byte(p.ip))
	tests := map[string]struct {
		was  []byte
		addr netip.Addr
		tail []byte
		last netip.Addr
	}{
		"where it began":        {nil, began, nil, began},
		"elsewhere":             {nil, elsewhere, noted(elsewhere.AsSlice()...), elsewhere},
		"IPv4 written as IPv6":  {nil, netip.MustParseAddr("::ffff:192.0.2.9"), noted(192, 0, 2, 9), netip.MustParseAddr("192.0.2.9")},
		"elsewhere again":       {noted(192, 0, 2, 9), elsewhere, noted(elsewhere.AsSlice()...), elsewhere},
		"back where it began":   {noted(192, 0, 2, 9), began, nil, began},
		"with a zone":           {nil, elsewhere.WithZone("eth0"), noted(elsewhere.AsSlice()...), elsewhere},
		"an address of nothing": {noted(192, 0, 2, 9), netip.Addr{}, noted(192, 0, 2, 9), netip.MustParseAddr("192.0.2.9")},
	}
	for _, form := range []string{"version 1", "version 2"} {
		base := raw
		if form == "version 2" {
			base = extended(raw, others)
		}
		for name, tt := range tests {
			t.Run(form+"/"+name, func(t *testing.T) {
				var rec, copied, next coatcheck.Record
				require.NoError(t, rec.Read(someKey, slices.Concat(base, tt.was)))
				rec.SetLastIP(tt.addr)
				want := slices.Concat(base, tt.tail)
				assert.Equal(t, want, rec.Bytes())
				assert.Equal(t, tt.last, rec.LastIP())
				assert.Equal(t, began, rec.IP(), "the other one stays")
				assert.Equal(t, "user-42", rec.UserID())
				require.NoError(t, copied.Read(someKey, want))
				assert.Equal(t, tt.last, copied.LastIP())
				require.NoError(t, next.Rewrite(&rec, rec.Header, p.values))
				assert.Equal(t, want, next.Bytes(), "it is kept")
			})
		}
	}
	var none coatcheck.Record
	none.SetLastIP(elsewhere)
	assert.Empty(t, none.Bytes(), "the zero Record holds nothing")
}

func TestLastIPIsDamaged(t *testing.T) {
	raw := encode(t, example())
	for name, tail := range map[string][]byte{
		"no address": noted(), "three bytes": noted(1, 2, 3), "followed by a value": append(noted(1, 2, 3, 4), "\x02\xFFa\x00\x00"...),
		"twice": append(noted(1, 2, 3, 4), noted(1, 2, 3, 4)...),
	} {
		err := new(coatcheck.Record).Read(someKey, slices.Concat(raw, tail))
		assert.ErrorIs(t, err, coatcheck.ErrDamaged, name)
	}
}

// The application can neither read nor change the note.
func TestApplicationDoesNotSeeLastIP(t *testing.T) {
	w := newWorld(t)
	cookie := w.login("u")
	w.do(cookie, func(s *coatcheck.Session) { require.NoError(t, s.Insert("theme", "dark")) })
	k := key(t, cookie)
	w.data.put(k, append(w.data.raw(k), noted(192, 0, 2, 9)...))
	s := w.open(cookie)
	assert.Equal(t, 1, s.Len())
	for name := range s.Entries() {
		assert.Equal(t, "theme", name)
	}
	assert.False(t, s.Contains("\xFF"))
	_, ok := s.Raw("\xFF")
	assert.False(t, ok)
	assert.ErrorIs(t, s.Insert("\xFF", "192.0.2.1"), coatcheck.ErrName)
	s.Remove("\xFF")
	assert.Equal(t, coatcheck.KeepCookie, w.finish(s).cookie, "nothing was changed")
	assert.Equal(t, "192.0.2.9", w.record(cookie).LastIP().String())
}

// A session's values may take all of MaxValues, whether or not there is a note: the note is dropped or not written if the
// values leave no room for it.
func TestValuesComeBeforeLastIP(t *testing.T) {
	p, rec, next := example(), new(coatcheck.Record), new(coatcheck.Record)
	fill := func(n int) []byte { return block(map[string]string{"n": strings.Repeat("1", n-4)}) }
	require.NoError(t, p.write(rec))
	rec.SetLastIP(elsewhere)
	require.NoError(t, next.Rewrite(rec, rec.Header, fill(coatcheck.MaxValues-20)))
	assert.Equal(t, elsewhere, next.LastIP())
	require.NoError(t, next.Rewrite(rec, rec.Header, fill(coatcheck.MaxValues-19)))
	assert.Equal(t, next.IP(), next.LastIP(), "one byte too many")
	next.SetLastIP(elsewhere)
	assert.Equal(t, next.IP(), next.LastIP())
	next.SetLastIP(netip.MustParseAddr("192.0.2.9"))
	assert.Equal(t, "192.0.2.9", next.LastIP().String(), "an IPv4 address is shorter")
	assert.ErrorIs(t, next.Rewrite(rec, rec.Header, fill(coatcheck.MaxValues+1)), coatcheck.ErrTooLarge)
}
