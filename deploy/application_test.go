package deploy_test

import (
	"crypto/sha1" //nolint:gosec // what WebSocket asks for (RFC 6455, section 4.2.2)
	"encoding/base64"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
)

// application is what stands behind the proxy. It notes each request, and then does what its path says.
func (s *site) application() http.Handler {
	paths := map[string]http.HandlerFunc{"/socket": webSocket, "/events": events, "/upload": upload}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r)
		s.mu.Unlock()
		if serve := paths[r.URL.Path]; serve != nil {
			serve(w, r)
			return
		}
		_, _ = io.WriteString(w, "the application")
	})
}

// webSocket opens a WebSocket and sends back whatever comes.
func webSocket(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") == "" {
		http.Error(w, "not a WebSocket", http.StatusBadRequest)
		return
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // see above
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close() //nolint:errcheck // nobody is left to tell
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+
		base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n")
	_, _ = io.Copy(conn, buffered)
}

// events sends one event, and the next when the client has gone: a proxy that holds the first one back delivers none.
func events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, "data: first\n\n")
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// upload answers with the length and checksum of what it read.
func upload(w http.ResponseWriter, r *http.Request) {
	sum := crc32.NewIEEE()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = io.WriteString(w, strconv.FormatInt(n, 10)+" "+strconv.FormatUint(uint64(sum.Sum32()), 16))
}
