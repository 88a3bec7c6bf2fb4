// Watch waits until a session has ended, and says why. An application that keeps a connection of a user open, such as a WebSocket,
// does the same with the cookie of the request that opened the connection, and closes the connection then.
//
//	go run ./examples/watch http://127.0.0.1:3000 'coatcheck=TOKEN'
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: watch URL COOKIE")
		os.Exit(2)
	}
	fmt.Println(untilEnded(context.Background(), os.Args[1], os.Args[2]))
}

// untilEnded returns why the session of the cookie has ended. It connects again when the server stops or the connection breaks:
// an outage ends no session. When ctx ends it returns an empty reason.
func untilEnded(ctx context.Context, server, cookie string) (reason string) {
	for ctx.Err() == nil {
		reason, err := watchOnce(ctx, server, cookie)
		if err == nil {
			return reason
		}
		select {
		case <-time.After(3 * time.Second):
		case <-ctx.Done():
		}
	}
	return ""
}

func watchOnce(ctx context.Context, server, cookie string) (reason string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/auth/watch", http.NoBody)
	if err != nil {
		return "", err
	}
	req.Header.Set("Cookie", cookie)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // nothing was written
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return "ended", nil // before this request
	default:
		return "", errors.New(resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	for event := ""; lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			event = name
		} else if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && event == "ended" {
			var end struct{ Reason string }
			err := json.Unmarshal([]byte(data), &end)
			return end.Reason, err
		}
	}
	return "", errors.New("the server ended the response")
}
