package coatcheck_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coatcheck/coatcheck"
)

var someKey = coatcheck.Key{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// parts are the parts of a record.
type parts struct {
	header          coatcheck.Header
	user, ip, agent []byte
	values          []byte
}

func (p parts) write(rec *coatcheck.Record) error {
	return rec.Write(someKey, p.header, p.user, p.ip, p.agent, p.values)
}

// block encodes values as the comment in codec.go says, by other code than codec.go's.
func block(values map[string]string) []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(values)) {
		b = append(b, byte(len(name)))
		b = append(b, name...)
		b = append(b, byte(len(values[name])>>8), byte(len(values[name])))
		b = append(b, values[name]...)
	}
	return b
}

func example() parts {
	return parts{
		header: coatcheck.Header{
			Version: 3, ID: coatcheck.ID{1}, PrevID: coatcheck.ID{2}, PrevUntil: coatcheck.PrevOpen,
			RotatedAt: 10, CreatedAt: 20, LastSeen: 30, IdleExpiry: 40, AbsoluteExpiry: 50,
		},
		user: []byte("user-42"), ip: []byte{192, 0, 2, 1}, agent: []byte("curl/8.5"),
		values: block(map[string]string{"a": `1`, "refreshed": `true`, "theme": `"dark"`}),
	}
}

func encode(t tester, p parts) []byte {
	t.Helper()
	var rec coatcheck.Record
	require.NoError(t, p.write(&rec))
	return bytes.Clone(rec.Bytes())
}

func drawParts(t *rapid.T) parts {
	int64s := rapid.Int64()
	id := func(label string) (id coatcheck.ID) {
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label))
		return id
	}
	p := parts{
		header: coatcheck.Header{
			Version: rapid.Uint64Min(1).Draw(t, "version"), ID: id("id"), PrevID: id("prev"),
			PrevUntil: int64s.Draw(t, "prevUntil"), RotatedAt: int64s.Draw(t, "rotated"), CreatedAt: int64s.Draw(t, "created"),
			LastSeen: int64s.Draw(t, "seen"), IdleExpiry: int64s.Draw(t, "idle"), AbsoluteExpiry: int64s.Draw(t, "absolute"),
		},
		user:  rapid.SliceOfN(rapid.Byte(), 0, coatcheck.MaxUserID).Draw(t, "user"),
		agent: rapid.SliceOfN(rapid.Byte(), 0, coatcheck.MaxUserAgent).Draw(t, "agent"),
	}
	ipLen := rapid.SampledFrom([]int{0, 4, 16}).Draw(t, "ipLen")
	p.ip = rapid.SliceOfN(rapid.Byte(), ipLen, ipLen).Draw(t, "ip")
	p.header.ID[0] |= 1 // not zero
	values := rapid.MapOfN(rapid.StringN(1, 20, 60), rapid.StringN(0, 40, 120), 0, 15).Draw(t, "values")
	p.values = block(values)
	return p
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawParts(t)
		raw := encode(t, p)
		require.LessOrEqual(t, len(raw), coatcheck.MaxRecord)

		var got coatcheck.Record
		given := bytes.Clone(raw)
		require.NoError(t, got.Read(someKey, given))
		clear(given) // Read has copied it
		assert.Equal(t, someKey, got.Key)
		assert.Equal(t, p.header, got.Header)
		assert.Equal(t, string(p.user), string(got.User()))
		assert.Equal(t, string(p.user), got.UserID())
		assert.Equal(t, string(p.agent), string(got.UserAgent()))
		assert.Equal(t, len(p.ip) > 0, got.IP().IsValid())
		assert.Equal(t, string(p.ip), string(got.IP().AsSlice()))
		assert.Equal(t, raw, got.Bytes())
		assert.Equal(t, p.header.Version, coatcheck.Encoded(raw).Version())
		assert.Equal(t, got.Expiry(), coatcheck.Encoded(raw).Expiry())
		assert.Equal(t, p.header.CreatedAt, coatcheck.Encoded(raw).Created())
		assert.Equal(t, string(p.user), string(coatcheck.Encoded(raw).User()))
		assert.Equal(t, min(p.header.IdleExpiry, p.header.AbsoluteExpiry), got.Expiry())
	})
}

// The layout is the format of stored records in Redis and on disks, so it changes only with the codec's version.
func TestRecordLayout(t *testing.T) {
	raw := encode(t, example())
	want := []byte{0xC1, 0, 0, 0, 0, 0, 0, 0, 3}
	want = append(want, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	want = append(want, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	for _, ms := range []uint64{math.MaxInt64, 10, 20, 30, 40, 50} {
		want = binary.BigEndian.AppendUint64(want, ms)
	}
	want = append(want, "\x00\x07user-42\x04\xc0\x00\x02\x01\x00\x08curl/8.5\x01a\x00\x011\x09refreshed\x00\x04true\x05theme\x00\x06\"dark\""...)
	assert.Equal(t, want, raw)
}

func TestRecordBounds(t *testing.T) {
	long := func(n int) []byte { return bytes.Repeat([]byte("x"), n) }
	fill := func(n int) []byte { return block(map[string]string{"n": strings.Repeat("1", n-4)}) }
	tests := map[string]struct {
		change func(*parts)
		want   error
	}{
		"longest user":       {func(p *parts) { p.user = long(256) }, nil},
		"user":               {func(p *parts) { p.user = long(257) }, coatcheck.ErrTooLarge},
		"longest user agent": {func(p *parts) { p.agent = long(256) }, nil},
		"user agent":         {func(p *parts) { p.agent = long(257) }, coatcheck.ErrTooLarge},
		"most values":        {func(p *parts) { p.values = fill(3072) }, nil},
		"values":             {func(p *parts) { p.values = fill(3073) }, coatcheck.ErrTooLarge},
		"all at once": {func(p *parts) {
			p.user, p.agent, p.ip, p.values = long(256), long(256), long(16), fill(3072)
		}, nil},
		"IP of 3 bytes":               {func(p *parts) { p.ip = long(3) }, coatcheck.ErrDamaged},
		"IP whose length wraps":       {func(p *parts) { p.ip, p.agent, p.values = wrapping(), nil, nil }, coatcheck.ErrTooLarge},
		"no ID":                       {func(p *parts) { p.header.ID = coatcheck.ID{} }, coatcheck.ErrDamaged},
		"no version":                  {func(p *parts) { p.header.Version = 0 }, coatcheck.ErrDamaged},
		"names out of order":          {func(p *parts) { p.values = []byte("\x01b\x00\x00\x01a\x00\x00") }, coatcheck.ErrDamaged},
		"a name twice":                {func(p *parts) { p.values = []byte("\x01a\x00\x00\x01a\x00\x00") }, coatcheck.ErrDamaged},
		"an empty name":               {func(p *parts) { p.values = []byte("\x00\x00\x00") }, coatcheck.ErrDamaged},
		"a value beyond the end":      {func(p *parts) { p.values = []byte("\x01a\x00\x05true") }, coatcheck.ErrDamaged},
		"a name beyond the end":       {func(p *parts) { p.values = []byte("\xffa") }, coatcheck.ErrDamaged},
		"half of a length of a value": {func(p *parts) { p.values = []byte("\x01a\x00") }, coatcheck.ErrDamaged},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p, rec := example(), new(coatcheck.Record)
			tt.change(&p)
			err := p.write(rec)
			if tt.want == nil {
				require.NoError(t, err)
				assert.LessOrEqual(t, len(rec.Bytes()), coatcheck.MaxRecord)
				return
			}
			assert.ErrorIs(t, err, tt.want)
		})
	}
}

// wrapping returns an IP address of 260 bytes, whose length would be written as 4 and whose rest would be read as values.
func wrapping() []byte {
	return append([]byte{192, 0, 2, 1, 0, 0, 1, 'n', 0, 252}, bytes.Repeat([]byte("1"), 250)...)
}

func TestTruncatedRecordIsDamaged(t *testing.T) {
	p := example()
	raw := encode(t, p)
	fixed := len(raw) - len(p.values)
	atPair := map[int]bool{fixed: true, fixed + 5: true, fixed + 5 + 16: true, len(raw): true}
	for n := range len(raw) + 1 {
		var rec coatcheck.Record
		err := rec.Read(someKey, raw[:n])
		if atPair[n] {
			assert.NoError(t, err, "%d bytes: values end at a pair", n)
			continue
		}
		assert.ErrorIs(t, err, coatcheck.ErrDamaged, "%d bytes", n)
	}
}

func TestReadTellsWhatBytesAre(t *testing.T) {
	raw := encode(t, example())
	as := func(first byte) []byte { return append([]byte{first}, raw[1:]...) }
	tests := map[string]struct {
		raw  []byte
		want error
	}{
		"a record":                   {raw, nil},
		"a tombstone":                {coatcheck.Tombstone(), coatcheck.ErrEnded},
		"a tombstone with more":      {append(coatcheck.Tombstone(), 0), coatcheck.ErrDamaged},
		"version 2, no extension":    {extended(raw, nil), nil},
		"version 2":                  {extended(raw, others), nil},
		"version 1 called version 2": {as(0xC2), coatcheck.ErrDamaged},
		"version 2 called version 1": {append([]byte{0xC1}, extended(raw, others)[1:]...), coatcheck.ErrDamaged},
		"the next version":           {as(0xC3), coatcheck.ErrNewer},
		"a far version":              {as(0xCF), coatcheck.ErrNewer},
		"a newer one, short":         {[]byte{0xC3}, coatcheck.ErrNewer},
		"a newer one, long":          {append([]byte{0xC3}, make([]byte, 1<<16)...), coatcheck.ErrNewer},
		"beyond versions":            {as(0xD0), coatcheck.ErrDamaged},
		"nothing":                    {nil, coatcheck.ErrDamaged},
		"zeros":                      {make([]byte, 200), coatcheck.ErrDamaged},
		"JSON":                       {[]byte(`{"user_id":"user-42","authenticated":true}`), coatcheck.ErrDamaged},
		"long text":                  {[]byte(strings.Repeat("session ", 40)), coatcheck.ErrDamaged},
		"an older codec mark, whole": {as(0xC0), coatcheck.ErrDamaged},
		"values beyond their bound": {
			append(bytes.Clone(raw[:len(raw)-len(example().values)]), block(map[string]string{"n": strings.Repeat("1", 3069)})...),
			coatcheck.ErrDamaged,
		},
		"user ID beyond its bound": {
			slices.Concat(raw[:89], []byte{1, 1}, make([]byte, 257), []byte{0, 0, 0}), coatcheck.ErrDamaged,
		},
		"user agent beyond its bound": {
			slices.Concat(raw[:89], []byte{0, 0, 0, 1, 1}, make([]byte, 257)), coatcheck.ErrDamaged,
		},
		"beyond MaxRecord": {append(bytes.Clone(raw), make([]byte, coatcheck.MaxRecord)...), coatcheck.ErrDamaged},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := new(coatcheck.Record).Read(someKey, tt.raw)
			if tt.want == nil {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, tt.want)
			}
		})
	}
	assert.True(t, coatcheck.Tombstone().IsTombstone())
	assert.False(t, coatcheck.Encoded(raw).IsTombstone())
	assert.Zero(t, coatcheck.Tombstone().Version())
	assert.Zero(t, coatcheck.Tombstone().Expiry())
	assert.Zero(t, coatcheck.Tombstone().Created())
	assert.Empty(t, coatcheck.Tombstone().User())
}

// A record that is read into again shows nothing of the one before.
func TestRecordIsReusable(t *testing.T) {
	rec, long, short := new(coatcheck.Record), example(), parts{header: example().header}
	require.NoError(t, long.write(rec))
	require.NoError(t, short.write(rec))
	assert.Empty(t, rec.UserID())
	assert.Empty(t, rec.UserAgent())
	assert.False(t, rec.IP().IsValid())
	raw := encode(t, long)
	assert.Zero(t, testing.AllocsPerRun(1000, func() { _ = rec.Read(someKey, raw) }), "into a used record")
	bound := append(extended(raw, others), noted(192, 0, 2, 9)...)
	require.NoError(t, rec.Read(someKey, bound))
	require.NoError(t, rec.Read(someKey, raw))
	next := new(coatcheck.Record)
	require.NoError(t, next.Rewrite(rec, long.header, long.values))
	assert.Equal(t, raw, next.Bytes(), "neither extension nor note is left of the one before")
}

// DOS-09: no bytes, and no claim about lengths in them, cost more than 64 KiB.
func TestHostileBytesCostLittle(t *testing.T) {
	raw := encode(t, example())
	hostile := map[string][]byte{
		"all lengths at their most": bytes.Repeat([]byte{0xFF}, 4096),
		"a newer version, 64 KiB":   append([]byte{0xC3}, bytes.Repeat([]byte{0xFF}, 40<<10)...),
		"deep JSON":                 []byte(strings.Repeat("[", 4096)),
	}
	for form, raw := range map[string][]byte{"version 1": raw, "version 2": extended(raw, others), "noted": append(bytes.Clone(raw), noted(1, 2, 3, 4)...)} {
		for off := range raw {
			for _, b := range []byte{0x00, 0x7F, 0x80, 0xFF, raw[off] + 1, raw[off] - 1} {
				bad := bytes.Clone(raw)
				bad[off] = b
				hostile[fmt.Sprintf("%s, byte %d is %#x", form, off, b)] = bad
			}
		}
	}
	for name, b := range hostile {
		allocated := uint64(math.MaxUint64)
		for i := 0; i < 5 && allocated > 64<<10; i++ { // what other goroutines allocate meanwhile is counted as well
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_ = new(coatcheck.Record).Read(someKey, b)
			runtime.ReadMemStats(&after)
			allocated = after.TotalAlloc - before.TotalAlloc
		}
		assert.LessOrEqual(t, allocated, uint64(64<<10), name)
	}
}

func FuzzRecordRead(f *testing.F) {
	raw := encode(f, example())
	bare := encode(f, parts{header: example().header})
	for _, seed := range [][]byte{
		raw, bare, raw[:100], coatcheck.Tombstone(),
		{0xC3},
		nil, bytes.Repeat([]byte{0xFF}, 200),
		extended(raw, others), extended(bare, nil), extended(bare, part(2, "")), extended(raw, others)[:120],
		append(extended(raw, others), noted(1, 2, 3, 4)...), append(bytes.Clone(raw), noted(make([]byte, 16)...)...),
		append(bytes.Clone(bare), noted(1, 2, 3)...),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var rec coatcheck.Record
		if rec.Read(someKey, in) != nil {
			return
		}
		if len(in) > coatcheck.MaxRecord || rec.Version == 0 || rec.ID == (coatcheck.ID{}) {
			t.Fatalf("accepted: %x", in)
		}
		if b := coatcheck.Encoded(in); b.Version() != rec.Version || b.Expiry() != rec.Expiry() || string(b.User()) != rec.UserID() {
			t.Fatal("the short reads differ from the whole one")
		}
		values := in[valuesAt(in):]
		for rest := values; len(rest) > 0; {
			n := 1 + int(rest[0])
			if string(rest[1:n]) == "\xFF" {
				values = values[:len(values)-len(rest)]
			}
			rest = rest[n+2+int(binary.BigEndian.Uint16(rest[n:])):]
		}
		want := in
		if in[0] == 0xC2 && in[extensionAt(in)] == 0 && in[extensionAt(in)+1] == 0 {
			want = slices.Concat([]byte{0xC1}, in[1:extensionAt(in)], in[valuesAt(in):])
		}
		var again coatcheck.Record
		if err := again.Rewrite(&rec, rec.Header, values); err != nil {
			t.Fatalf("accepted, but not written again: %v", err)
		}
		if !bytes.Equal(again.Bytes(), want) {
			t.Fatalf("read %x, wrote %x", in, again.Bytes())
		}
	})
}
