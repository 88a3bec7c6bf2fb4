// The ceiling of net/http: it answers what coatcheck answered, with the same status, headers and body, and does no session
// work.
package main

import (
	"net/http"

	"github.com/coatcheck/coatcheck/bench/peers/internal/peer"
)

func main() {
	mux := http.NewServeMux()
	for route, answer := range peer.Answers() {
		mux.Handle(route, answer)
	}
	peer.ServeHTTP(mux)
}
