package redisstore_test

import (
	"bufio"
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

// unknowing returns the address of a server that does not know any command but those that are named.
func unknowing(t *testing.T, known string) string {
	t.Helper()
	return testserver.Serve(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			command, err := readCommand(in)
			if err != nil {
				return
			}
			name := strings.ToUpper(command[0])
			answer := fmt.Sprintf("-ERR unknown command '%s', with args beginning with: '%s' \r\n", command[0], strings.Join(command[1:], "' '"))
			switch {
			case !strings.Contains(known, name):
			case name == "HELLO":
				answer = "%2\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:3\r\n"
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
	} {
		err := redisstore.Options{URL: url}.Validate()
		require.Error(t, err, url)
		assert.NotContains(t, err.Error(), "s3cret", url)
	}
}
