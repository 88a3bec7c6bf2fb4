package server_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"strings"

	"github.com/coatcheck/coatcheck/server"
	"github.com/coatcheck/coatcheck/server/login"
	"github.com/coatcheck/coatcheck/shardstore"
)

// The standalone server inside a program of one's own.
func ExampleNew() {
	store, err := shardstore.New(shardstore.Options{})
	if err != nil {
		panic(err)
	}
	defer store.Close() //nolint:errcheck // nothing is on disk
	srv, err := server.New(store, server.Config{
		Login:  login.Open{},                               // believes everybody; see package login for others
		Cookie: server.Cookie{Name: "sid", Insecure: true}, // for plain http on loopback
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	served := make(chan error)
	go func() { served <- srv.Serve(ln) }()

	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err)
	}
	browser := http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(method, path, body string) {
		req, err := http.NewRequestWithContext(context.Background(), method, "http://"+ln.Addr().String()+path, strings.NewReader(body))
		if err != nil {
			panic(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := browser.Do(req)
		if err != nil {
			panic(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			panic(err)
		}
		_ = resp.Body.Close()                                    // it was read
		view, _, _ := strings.Cut(string(text), `,"session_id"`) // which differs each time
		fmt.Println(strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", view)))
	}
	ask("POST", "/auth/login", `{"user_id":"ada"}`)
	ask("GET", "/auth/me", "")
	ask("POST", "/auth/logout", "")
	ask("GET", "/auth/me", "")
	fmt.Println(srv.Shutdown(context.Background()), <-served)
	// Output:
	// 200 {"authenticated":true,"user_id":"ada","refreshed":false
	// 200 {"authenticated":true,"user_id":"ada","refreshed":false
	// 204
	// 200 {"authenticated":false,"user_id":null,"refreshed":false
	// <nil> <nil>
}
