package coatcheck_test

import (
	"context"
	"fmt"
	"time"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/shardstore"
)

// A Manager opens the session of a request from the tokens that it presents. Package server does this for Fiber; a
// middleware for another framework would do the same.
func Example() {
	type cart struct {
		Items []string `json:"items"`
	}
	ctx := context.Background()
	store, err := shardstore.New(shardstore.Options{})
	if err != nil {
		panic(err)
	}
	defer store.Close() //nolint:errcheck // the store has nothing on disk
	manager, err := coatcheck.NewManager(store, coatcheck.Policy{TTL: 20 * time.Minute})
	if err != nil {
		panic(err)
	}

	// A request without a cookie logs in.
	var session coatcheck.Request
	err = manager.Open(ctx, &session, &coatcheck.Presented{}, coatcheck.Client{}, time.Now())
	if err == nil {
		err = session.BeginLogin(ctx, "ada") // before the password is checked
	}
	if err == nil {
		err = session.Authenticate("ada")
	}
	if err == nil {
		err = session.Insert("cart", cart{Items: []string{"coat"}})
	}
	if err == nil {
		err = session.Finish(ctx)
	}
	if err != nil {
		panic(err)
	}
	token, _ := session.Token(time.Now())
	cookie := token.AppendSecretText(nil) // the value of the response's Set-Cookie
	session.Release()

	// The next request presents the cookie.
	var presented coatcheck.Presented
	presented.Add(cookie)
	if err := manager.Open(ctx, &session, &presented, coatcheck.Client{}, time.Now()); err != nil {
		panic(err)
	}
	defer session.Release()
	// Update runs again on the current value if a parallel request changed it meanwhile.
	err = coatcheck.Update(&session.Session, "cart", func(c cart) cart {
		c.Items = append(c.Items, "hat")
		return c
	})
	if err == nil {
		err = session.Finish(ctx)
	}
	if err != nil {
		panic(err)
	}
	got, err := coatcheck.Get[cart](&session.Session, "cart")
	fmt.Println(session.UserID(), got.Items, err)
	// Output: ada [coat hat] <nil>
}
