package coatcheck_test

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/coatcheck/coatcheck"
)

func TestGetIsTyped(t *testing.T) {
	type cart struct {
		Items []string `json:"items"`
	}
	s := newWorld(t).open()
	for name, v := range map[string]any{
		"yes": true, "no": false, "text": "dark", "escaped": "a\"b\\\n", "umlaut": "größe", "n": 42, "f": 1.5, "null": nil,
		"big": int64(math.MaxInt64), "time": time.Unix(1, 0).UTC(), "cart": cart{[]string{"a"}}, "list": []int{1, 2},
	} {
		require.NoError(t, s.Insert(name, v))
	}
	wantValue(t, s.Lend(), "yes", true)
	wantValue(t, s.Lend(), "no", false)
	wantValue(t, s.Lend(), "text", "dark")
	wantValue(t, s.Lend(), "escaped", "a\"b\\\n")
	wantValue(t, s.Lend(), "umlaut", "größe")
	wantValue(t, s.Lend(), "n", 42)
	wantValue(t, s.Lend(), "f", 1.5)
	wantValue(t, s.Lend(), "big", int64(math.MaxInt64))
	wantValue(t, s.Lend(), "time", time.Unix(1, 0).UTC())
	wantValue(t, s.Lend(), "cart", cart{[]string{"a"}})
	wantValue(t, s.Lend(), "list", []int{1, 2})
	wantValue[any](t, s.Lend(), "text", "dark")
	wantValue[any](t, s.Lend(), "null", nil)
	wantValue(t, s.Lend(), "null", "")
	wantValue(t, s.Lend(), "null", 0)

	wantNo[bool](t, s.Lend(), "text")
	wantNo[string](t, s.Lend(), "yes")
	wantNo[string](t, s.Lend(), "cart")
	wantNo[int](t, s.Lend(), "text")
	wantNo[int](t, s.Lend(), "f")
	wantNo[uint8](t, s.Lend(), "big")
	wantNo[cart](t, s.Lend(), "list")

	_, err := coatcheck.Get[string](s.Lend(), "absent")
	assert.ErrorIs(t, err, coatcheck.ErrNoValue)
}

// Values that other programs write come back unchanged (CASES B16).
func TestValuesKeepTheirBytes(t *testing.T) {
	w := newWorld(t)
	s := w.open()
	text := strings.Repeat("&<>", 340)
	require.NoError(t, s.Insert("text", text), "a character takes one byte")
	wantValue(t, s.Lend(), "text", text)
	raw, _ := s.Raw("text")
	assert.Len(t, raw, len(text)+2)

	require.NoError(t, s.Insert("large", map[string]any{"n": uint64(math.MaxUint64)}))
	wantValue[any](t, s.Lend(), "large", map[string]any{"n": json.Number("18446744073709551615")})
	require.NoError(t, coatcheck.Update(s.Lend(), "large", func(v any) any { return v }))
	raw, _ = s.Raw("large")
	assert.Equal(t, `{"n":18446744073709551615}`, string(raw))
	require.NoError(t, s.Insert("raw", json.RawMessage(`[1.0, 1e400]`)))
	wantValue[any](t, s.Lend(), "raw", []any{json.Number("1.0"), json.Number("1e400")})
}

func wantValue[T any](t *testing.T, s *coatcheck.Session, name string, want T) {
	t.Helper()
	got, err := coatcheck.Get[T](s, name)
	require.NoError(t, err, name)
	assert.Equal(t, want, got, name)
}

func wantNo[T any](t *testing.T, s *coatcheck.Session, name string) {
	t.Helper()
	got, err := coatcheck.Get[T](s, name)
	require.Error(t, err, "%s as %T", name, got)
	assert.NotErrorIs(t, err, coatcheck.ErrNoValue)
	var zero T
	assert.Equal(t, zero, got)
}

// The fast paths of Get stand beside encoding/json and must equal it.
func TestGetEqualsJSON(t *testing.T) {
	w := newWorld(t)
	cookie := w.begin("seed", 1)
	rec := w.record(cookie)
	check := func(t tester, raw string) {
		require.NoError(t, rec.Write(rec.Key, rec.Header, nil, nil, nil, block(map[string]string{"v": raw})))
		w.data.put(rec.Key, rec.Bytes())
		s := w.open(cookie)
		equalsJSON[string](t, s.Lend(), raw)
		equalsJSON[bool](t, s.Lend(), raw)
	}
	for _, raw := range []string{
		"", "true", "false", "null", "1", `""`, `"`, " true", "true ", `"a" `, "tru", "\"\x7f\"", "\"\xff\"", "\"\x1f\"", "\"\n\"", `"a"b"`,
	} {
		check(t, raw)
	}
	rapid.Check(t, func(t *rapid.T) {
		check(t, rapid.OneOf(
			rapid.Map(rapid.String(), func(s string) string { b, _ := json.Marshal(s); return string(b) }),
			rapid.StringMatching(`"[ -~]{0,8}"`), rapid.StringMatching(`"[a"\\u0-9]{0,8}"?`),
		).Draw(t, "raw"))
	})
}

func equalsJSON[T any](t tester, s *coatcheck.Session, raw string) {
	var want T
	wantErr := json.Unmarshal([]byte(raw), &want) != nil
	got, err := coatcheck.Get[T](s, "v")
	require.Equal(t, wantErr, err != nil, "%q as %T", raw, got)
	if !wantErr {
		require.Equal(t, want, got, "%q", raw)
	}
}

func TestUpdateComposes(t *testing.T) {
	add := func(s *coatcheck.Session, n int) error {
		return coatcheck.Update(s, "n", func(old int) int { return old + n })
	}
	tests := map[string]struct {
		handler func(s *coatcheck.Session) error
		own     string // what the handler reads if the value was 10
		raced   string // what is stored if another request set 100 meanwhile
	}{
		"once":         {func(s *coatcheck.Session) error { return add(s, 1) }, "11", "101"},
		"twice":        {func(s *coatcheck.Session) error { _ = add(s, 1); return add(s, 2) }, "13", "103"},
		"after insert": {func(s *coatcheck.Session) error { _ = s.Insert("n", 5); return add(s, 1) }, "6", "6"},
		"then insert":  {func(s *coatcheck.Session) error { _ = add(s, 1); return s.Insert("n", 5) }, "5", "5"},
		"after remove": {func(s *coatcheck.Session) error { s.Remove("n"); return add(s, 1) }, "1", "1"},
		"then remove":  {func(s *coatcheck.Session) error { _ = add(s, 1); s.Remove("n"); return nil }, "", ""},
		"after clear":  {func(s *coatcheck.Session) error { s.Clear(); return add(s, 1) }, "1", "1"},
		"then clear":   {func(s *coatcheck.Session) error { _ = add(s, 1); s.Clear(); return nil }, "", ""},
		"clear between": {func(s *coatcheck.Session) error {
			_ = add(s, 1)
			s.Clear()
			_ = add(s, 2)
			return add(s, 3)
		}, "5", "5"},
		"all": {func(s *coatcheck.Session) error {
			_ = add(s, 1)
			_ = s.Insert("n", 1)
			_ = add(s, 1)
			s.Remove("n")
			_ = add(s, 7)
			return add(s, 1)
		}, "8", "8"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cookie := w.begin("n", 10)
			s := w.open(cookie)
			require.NoError(t, tt.handler(s.Lend()))
			raw, _ := s.Raw("n")
			assert.Equal(t, tt.own, string(raw))
			w.do(cookie, func(s *coatcheck.Session) { require.NoError(t, s.Insert("n", 100)) })
			w.finish(s)
			assert.Equal(t, tt.raced, w.value(cookie, "n"))
			assert.Equal(t, 1, s.Report().Conflicts)
		})
	}
}

func TestUpdateRefuses(t *testing.T) {
	w := newWorld(t)
	s := w.open(w.begin("text", "x"))
	assert.Error(t, coatcheck.Update(s.Lend(), "text", func(n int) int { return n + 1 }), "not a number")
	assert.Error(t, coatcheck.Update(s.Lend(), "f", func(float64) float64 { return math.Inf(1) }), "no JSON")
	assert.ErrorIs(t, coatcheck.Update(s.Lend(), "", func(n int) int { return n }), coatcheck.ErrName)
	assert.ErrorIs(t, coatcheck.Update(s.Lend(), "t", func(string) string { return strings.Repeat("x", 4000) }), coatcheck.ErrTooLarge)
	assert.Equal(t, []string{`text="x"`}, entries(s.Lend()))
	w.store.ops()
	assert.Equal(t, coatcheck.KeepCookie, w.finish(s).cookie)
	assert.Empty(t, w.store.ops(), "nothing changed, nothing is written")

	require.NoError(t, coatcheck.Update(s.Lend(), "n", func(old *int) *int { assert.Nil(t, old); return new(1) }), "absent: the zero T")
}

// An Update that another request's value makes impossible is an error of the commit, and nothing is written.
func TestUpdateOfAValueThatChangedItsType(t *testing.T) {
	w := newWorld(t)
	cookie := w.begin("n", 1)
	s := w.open(cookie)
	require.NoError(t, coatcheck.Update(s.Lend(), "n", func(n int) int { return n + 1 }))
	w.do(cookie, func(s *coatcheck.Session) { require.NoError(t, s.Insert("n", "text")) })
	require.Error(t, s.Finish(context.Background()))
	assert.Equal(t, coatcheck.KeepCookie, s.Cookie())
	assert.Equal(t, `"text"`, w.value(cookie, "n"))
}
