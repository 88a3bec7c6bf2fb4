package login_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coatcheck/coatcheck/server/login"
)

// A users file, and throttling around it.
func ExampleNewThrottle() {
	line, err := login.UsersLine("Ada", []byte("correct horse battery staple"), login.Fields{})
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "users-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the example is over
	file := filepath.Join(dir, "users")
	if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
		panic(err)
	}
	users, err := login.NewUsers(file, login.UsersOptions{})
	if err != nil {
		panic(err)
	}
	mode, err := login.NewThrottle(users, login.NewMemoryLedger(login.AccountRule()), login.NewMemoryLedger(login.AddressRule()), nil)
	if err != nil {
		panic(err)
	}

	user, err := mode.Check(context.Background(), &login.Attempt{UserID: "ADA", Password: []byte("correct horse battery staple")})
	fmt.Println(user, err)
	_, err = mode.Check(context.Background(), &login.Attempt{UserID: "Ada", Password: []byte("guess")})
	fmt.Println(errors.Is(err, login.ErrRefused))
	// Output:
	// Ada <nil>
	// true
}
