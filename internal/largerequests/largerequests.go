// Package largerequests has the requests by which a connection makes a server keep as much memory as it can.
package largerequests

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
)

// All returns requests for a server with this --max-header. Each makes a server that keeps its buffers keep others: they are few, as
// large as they may be, and of different shapes.
func All(maxHeader int) []string {
	const line = "GET /auth/me HTTP/1.1\r\nHost: x\r\n"
	room := maxHeader - 200
	short := "GET /auth/me HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a:\r\n", 127) + "\r\n"
	all := []string{
		short,
		line + "Cookie: " + strings.Repeat("a=;", room/3) + "\r\n\r\n",
		"DELETE /auth/sessions?" + strings.Repeat("&a", room/2) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /" + strings.Repeat("x", room) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		line + "User-Agent: " + strings.Repeat("x", room) + "\r\n\r\n",
		line + "Trailer: " + strings.Repeat("a,b,", room/4) + "c\r\n\r\n",
		"POST /auth/logout HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("a:\r\n", 128) + "\r\n",
		"POST /auth/logout HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na: " + strings.Repeat("x", room) + "\r\n\r\n",
		"POST /auth/logout HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 16384\r\n\r\n" + strings.Repeat("x", 16<<10),
		"OPTIONS /auth/me HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: " +
			"GET\r\nAccess-Control-Request-Headers: " + strings.Repeat("x", room) + "\r\n\r\n",
	}
	for i := range 16 { // each makes another line the long one, the last of them by its name
		all = append(all, line+strings.Repeat("a:\r\n", i)+"b: "+strings.Repeat("x", room-4*i)+"\r\n\r\n", line+strings.Repeat("a:\r\n", i)+strings.Repeat("x", room-4*i)+":\r\n\r\n")
	}
	for i := 59; i >= 0; i-- { // the same with lines that are not large one by one
		all = append(all, line+strings.Repeat("a:\r\n", i)+"b: "+strings.Repeat("x", 1000-4*i)+"\r\n\r\n")
	}
	// At last many lines of which none is large, and their sum is not either.
	return append(all, line+strings.Repeat("a: "+strings.Repeat("x", 90)+"\r\n", 31)+"\r\n", strings.Repeat(Small, 3))
}

// Shifting returns sequences of requests whose parts fasthttp keeps in other places than those where they stood, or in more memory
// than they took on the wire.
func Shifting() map[string][]string {
	const line = "GET /auth/me HTTP/1.1\r\nHost: x\r\n"
	var lines, before, connection []string
	for i := 31; i >= 0; i-- {
		long := strings.Repeat("x", 1480-4*i) + "\r\n\r\n" // a little less than what is dropped
		lines = append(lines, line+strings.Repeat("a:\r\n", i)+"b: "+long, line+strings.Repeat("a:\r\n", i)+strings.TrimSpace(long)+":\r\n\r\n")
		before = append(before, line+strings.Repeat("Connection: a\r\n", i)+"b: "+long)
		connection = append(connection, line+strings.Repeat("Connection: a\r\n", i)+"Connection: "+long)
	}
	for _, name := range []string{"User-Agent", "Content-Type", "Range"} {
		lines = append(lines, line+name+": "+strings.Repeat("x", 1400)+"\r\n\r\n")
	}
	names := "" // as many as there may be, with the last one
	for i := range 127 {
		names += strings.Repeat("x", 17) + fmt.Sprint(100+i) + ","
	}
	return map[string][]string{
		"lines": lines, "behind Connection": before, "Connection": connection,
		"Trailer": {line + "Trailer: " + names + "c\r\n\r\n"},
		"Cookie":  {line + "Cookie: " + strings.Repeat("a=;", 950) + "\r\n\r\n", line + "Cookie: " + strings.Repeat("a=;", 480) + "\r\n\r\n"},
	}
}

// Unreadable returns sequences of requests for a server with this --max-header that it cannot read to their end if nothing follows
// them, and after which it ends the connection.
func Unreadable(maxHeader int) map[string][]string {
	const chunked = "Transfer-Encoding: chunked\r\n\r\n"
	all := map[string][]string{}
	for _, end := range []string{
		"", "b\x01d:\r\n\r\n", "Content-Length: 9\r\n\r\n", chunked, chunked + "1\r\nx\r\n", "Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
	} {
		for i := 120; i >= 0; i -= 4 {
			long := strings.Repeat("x", (maxHeader-800)/2)
			all[end] = append(all[end], "POST /auth/logout HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("a:\r\n", i)+long+": "+long+"\r\n"+end)
		}
	}
	return all
}

// Small is a request as small as they come.
const Small = "GET /auth/me HTTP/1.1\r\nHost: x\r\n\r\n"

// RoundTrip sends requests and reads as many answers.
func RoundTrip(conn net.Conn, in *bufio.Reader, text string) error {
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	return Receive(in, text)
}

// Receive reads as many answers as the text has requests.
func Receive(in *bufio.Reader, text string) error {
	for range max(1, strings.Count(text, "\r\n\r\nGET")+1) {
		length := 0
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return err
			}
			if strings.HasPrefix(line, "Content-Length: ") {
				_, _ = fmt.Sscan(line[16:], &length)
			}
			if line == "\r\n" {
				break
			}
		}
		if _, err := in.Discard(length); err != nil {
			return err
		}
	}
	return nil
}
