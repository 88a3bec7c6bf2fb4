package httpsession_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/httpsession"
	"github.com/coatcheck/coatcheck/shardstore"
)

// An application that counts visits, and a browser that logs in and out.
func Example() {
	store, err := shardstore.New(shardstore.Options{})
	if err != nil {
		panic(err)
	}
	defer store.Close() //nolint:errcheck // nothing is on disk
	wrap, err := httpsession.New(store, httpsession.Config{})
	if err != nil {
		panic(err)
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		session := httpsession.Get(r)
		if err := coatcheck.Update(session, "visits", func(n int) int { return n + 1 }); err != nil {
			http.Error(w, "no more visits", http.StatusInternalServerError)
			return
		}
		visits, err := coatcheck.Get[int](session, "visits")
		if err != nil {
			http.Error(w, "no visits", http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "visit %d of %q", visits, session.UserID()) //nolint:errcheck // the client has gone
	})
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		session, user := httpsession.Get(r), "ada"
		if err := session.BeginLogin(r.Context(), user); err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		// Here the password is checked.
		if err := session.Authenticate(user); err != nil {
			http.Error(w, "who?", http.StatusUnprocessableEntity)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		httpsession.Get(r).Destroy()
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})

	server := httptest.NewTLSServer(wrap(mux))
	defer server.Close()
	browser := server.Client()
	if browser.Jar, err = cookiejar.New(nil); err != nil {
		panic(err)
	}
	for _, step := range []string{"GET /", "GET /", "POST /login", "GET /", "POST /logout"} {
		method, path, _ := strings.Cut(step, " ")
		req, err := http.NewRequestWithContext(context.Background(), method, server.URL+path, http.NoBody)
		if err != nil {
			panic(err)
		}
		resp, err := browser.Do(req)
		if err != nil {
			panic(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			panic(err)
		}
		_ = resp.Body.Close() // it was read
		fmt.Printf("%s: %s\n", step, body)
	}
	// Output:
	// GET /: visit 1 of ""
	// GET /: visit 2 of ""
	// POST /login: visit 3 of "ada"
	// GET /: visit 4 of "ada"
	// POST /logout: visit 1 of ""
}
