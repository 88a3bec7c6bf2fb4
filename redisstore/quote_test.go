package redisstore_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/coatcheck/coatcheck/internal/testoutput"
	"github.com/coatcheck/coatcheck/internal/testserver"
	"github.com/coatcheck/coatcheck/redisstore"
)

// A Redis or a proxy that does not know a command repeats its arguments. Those of AUTH are a password, and are neither in
// the error nor in the log.
func TestUnknownCommandsAreNotQuoted(t *testing.T) {
	for _, known := range []string{"", "HELLO", "HELLO CLIENT", "AUTH CLIENT SELECT"} {
		var out testoutput.Buffer
		opt := redisstore.Options{URL: "redis://user:s3cret@" + unknowing(t, known), Timeout: time.Second, Logger: slog.New(slog.NewTextHandler(&out, nil))}
		store, err := redisstore.New(t.Context(), opt)
		if err == nil {
			require.NoError(t, store.Close())
		} else {
			assert.NotContains(t, err.Error(), "s3cret", known)
		}
		assert.NotContains(t, out.String(), "s3cret", known)
	}
}

// What Redis, or what answers in its place, says of an error is cut, and printable. Its beginning is what operators need.
func TestQuotesOfErrorsAreBounded(t *testing.T) {
	const code = "OOM command not allowed"
	for _, known := range []string{"", "HELLO CLIENT GET"} {
		url := "redis://" + refusing(t, known, func(command []string) string {
			if command[0] == "CLUSTER" {
				return "ERR This instance has cluster support disabled"
			}
			return code + "\x1b[31m\x9c" + strings.Repeat("x", 1<<16)
		})
		var out *testoutput.Buffer
		var err error
		for late := true; late; { // the machine may be busy
			out = new(testoutput.Buffer)
			_, err = redisstore.New(t.Context(), redisstore.Options{URL: url, Timeout: time.Second, Logger: slog.New(slog.NewJSONHandler(out, nil))})
			var failed net.Error
			late = errors.As(err, &failed) && failed.Timeout()
		}
		require.ErrorContains(t, err, code, known)
		said := append(strings.Split(strings.TrimSpace(out.String()), "\n"), err.Error())
		for _, line := range said {
			assert.Less(t, len(line), 700, known)
			assert.NotContains(t, line, "\x1b")
			assert.NotContains(t, line, `\u001b`)
		}
		if known != "" {
			assert.Contains(t, out.String(), "Redis refuses writes", "which is logged with the error")
		}
	}
}

// unknowing returns the address of a server that does not know any command but those that are named.
func unknowing(t *testing.T, known string) string {
	t.Helper()
	return refusing(t, known, func(command []string) string {
		return fmt.Sprintf("ERR unknown command '%s', with args beginning with: '%s' ", command[0], strings.Join(command[1:], "' '"))
	})
}

// refusing returns the address of a server that answers all commands but the known ones with an error.
func refusing(t *testing.T, known string, refusal func(command []string) string) string {
	t.Helper()
	return testserver.Serve(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			command, err := readCommand(in)
			if err != nil {
				return
			}
			name := strings.ToUpper(command[0])
			answer := "-" + refusal(command) + "\r\n"
			switch {
			case !strings.Contains(known, name):
			case name == "HELLO":
				answer = "%2\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:3\r\n"
			case name == "GET":
				answer = "_\r\n"
			default:
				answer = "+OK\r\n"
			}
			if _, err := io.WriteString(conn, answer); err != nil {
				return
			}
		}
	})
}

// readCommand reads a command as clients send it: a line of words, or an array of bulk strings.
func readCommand(in *bufio.Reader) (parts []string, err error) {
	if begin, err := in.Peek(1); err != nil || begin[0] != '*' {
		line, err := in.ReadString('\n')
		return strings.Fields(line), err
	}
	number := func() (n int, err error) {
		line, err := in.ReadString('\n')
		if err != nil || len(line) < 4 {
			return 0, io.ErrUnexpectedEOF
		}
		return strconv.Atoi(line[1 : len(line)-2])
	}
	n, err := number()
	for len(parts) < n && err == nil {
		var size int
		if size, err = number(); err != nil {
			break
		}
		part := make([]byte, size+2)
		_, err = io.ReadFull(in, part)
		parts = append(parts, string(part[:size]))
	}
	return parts, err
}

// A password that is not percent-encoded makes a URL that means something else; no part of it is repeated.
func TestURLIsNotQuoted(t *testing.T) {
	for _, url := range []string{
		"redis://user:12/s3cret@host", "redis://user:12/s3cret@host/0", "redis://host/s3cret", "redis://host/?db=s3cret", "redis://host/?dial_timeout=s3cret",
		"redis://user:s3cret@ho st", "s3cret://host", "redis://user:s3cret/@host:6379", "rediss://host/?tls_ca=/nowhere/x&skip_verify=s3cret",
		"redis://:12?addr=s3cret@host", "redis://s3cret:99999/x@host", "redis://s3cret,x",
	} {
		err := redisstore.Options{URL: url}.Validate()
		require.Error(t, err, url)
		assert.NotContains(t, err.Error(), "s3cret", url)
	}
}
