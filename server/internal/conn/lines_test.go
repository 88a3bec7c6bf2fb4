package conn

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

const (
	getHead  = "GET / HTTP/1.1\r\n"
	postHead = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
)

func TestLineCounter(t *testing.T) {
	full := strings.Repeat("a:\r\n", MaxLines)
	for name, tt := range map[string]struct {
		text     string
		exceeded bool
	}{
		"the most lines":                       {getHead + full + "\r\n", false},
		"one more":                             {getHead + full + "a:\r\n", true},
		"line feeds alone":                     {strings.ReplaceAll(getHead+full+"a:\r\n", "\r\n", "\n"), true},
		"empty lines before the request":       {strings.Repeat("\r\n", 1000) + getHead + full + "\r\n", false},
		"half a line more":                     {getHead + full + "a", false},
		"the most trailers":                    {postHead + "3\r\nabc\r\n0\r\n" + full + "\r\n", false},
		"one trailer more":                     {postHead + "3\r\nabc\r\n0\r\n" + full + "a:\r\n", true},
		"trailers behind an extension":         {postHead + "0;a=b\r\n" + full + "a:\r\n", true},
		"trailers behind chunks":               {postHead + strings.Repeat("a\r\n\r\n\r\n\r\n\r\n\r\n\r\n", 200) + "00\r\n" + full + "a:\r\n", true},
		"line breaks in chunks":                {postHead + "fff\r\n" + strings.Repeat("\r\n", 0xfff/2) + "\n\r\n0\r\n\r\n", false},
		"line breaks in a body":                {"POST / HTTP/1.1\r\nContent-Length: 9999\r\n\r\n{" + strings.Repeat("\n", 9998), false},
		"a size that is none":                  {postHead + "\x10\r\n" + full + full, false},
		"a size that is too long for a number": {postHead + strings.Repeat("f", 100) + "\r\n" + full + full, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 7, 100, 600, 1 << 20} { // of the parts in which it arrives
				var l lineCounter
				for rest := []byte(tt.text); len(rest) > 0; rest = rest[min(size, len(rest)):] {
					l.add(rest[:min(size, len(rest))])
				}
				assert.Equal(t, tt.exceeded, l.exceeded(), "in parts of %d", size)
			}
		})
	}
}

// What was sent behind a request is the beginning of the next one.
func TestLineCounterCarriesPipelinedLines(t *testing.T) {
	var l lineCounter
	l.add([]byte(getHead + "a:\r\n\r\n" + getHead + strings.Repeat("a:\r\n", MaxLines+1)))
	l.begin()
	assert.True(t, l.exceeded())
	l = lineCounter{}
	l.add([]byte(getHead + "a:\r\n\r\n"))
	l.begin()
	assert.Zero(t, l)
}

// How bytes are cut does not change what is counted, and a header block that fasthttp reads and that has few lines is never
// refused.
func FuzzLineCounter(f *testing.F) {
	for _, text := range []string{getHead + "a: b\r\n\r\n", postHead + "3\r\nabc\r\n0\r\na:\r\n\r\n", "\r\n\r\nGET", postHead + "0\r\n" + strings.Repeat("a:\r\n", 200)} {
		f.Add([]byte(text), byte(1))
	}
	f.Fuzz(func(t *testing.T, text []byte, size byte) {
		var whole, parts lineCounter
		whole.addSlowly(text)
		for rest := text; len(rest) > 0; rest = rest[min(int(size)+1, len(rest)):] {
			parts.addSlowly(rest[:min(int(size)+1, len(rest))])
		}
		assert.Equal(t, whole.exceeded(), parts.exceeded())
		if bytes.Count(text, []byte("\n")) <= MaxLines {
			assert.False(t, whole.exceeded())
		}
	})
}

// addSlowly is add without its fast path.
func (l *lineCounter) addSlowly(b []byte) {
	for len(b) > 0 && !l.exceeded() {
		b = l.next(b)
	}
}

// A client that sends many lines, and not the end of the block, is refused at once, over every kind of block.
func TestTooManyLinesAreNotWaitedFor(t *testing.T) {
	lines := strings.Repeat("a:\r\n", 200)
	for name, text := range map[string]string{
		"headers":           getHead + lines,
		"trailers":          postHead + "0\r\n" + lines,
		"a pipelined block": getHead + "Host: x\r\n\r\n" + getHead + lines,
	} {
		t.Run(name, func(t *testing.T) {
			ln := listenLocal(t)
			s := newServer(Options{}) // no deadline
			failed := make(chan error, 1)
			s.http.ReadBufferSize = 8 << 10
			s.http.ErrorHandler = func(_ *fasthttp.RequestCtx, err error) { failed <- err }
			start(t, s, ln, nil)
			conn := connect(t, ln)
			_, err := io.WriteString(conn, text)
			require.NoError(t, err)
			_, err = io.ReadAll(conn)
			require.NoError(t, err)
			require.ErrorIs(t, <-failed, ErrTooManyLines)
		})
	}
}
