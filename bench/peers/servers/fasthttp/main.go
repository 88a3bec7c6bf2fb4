// Bare fasthttp, without Fiber: it answers what coatcheck answered.
package main

import (
	"github.com/valyala/fasthttp"

	"github.com/coatcheck/coatcheck/bench/peers/internal/peer"
)

func main() {
	answers := peer.Answers()
	me := answers["GET /auth/me"]
	srv := &fasthttp.Server{NoDefaultServerHeader: true, Handler: func(ctx *fasthttp.RequestCtx) {
		if ctx.IsGet() && string(ctx.Path()) == "/auth/me" {
			me.Write(&ctx.Response)
			return
		}
		answer := answers[string(ctx.Method())+" "+string(ctx.Path())]
		if answer == nil {
			ctx.SetStatusCode(fasthttp.StatusNotFound)
			return
		}
		answer.Write(&ctx.Response)
	}}
	peer.Must(srv.Serve(peer.Listen()))
}
