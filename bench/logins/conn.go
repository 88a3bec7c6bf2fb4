package main

import (
	"bufio"
	"context"
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// conn is one kept-alive connection, without the pools and retries of a client library.
type conn struct {
	net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	req  fasthttp.Request
	resp fasthttp.Response
}

func dial(ctx context.Context, address string) (*conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, r: bufio.NewReaderSize(c, 2048), w: bufio.NewWriterSize(c, 2048)}, nil
}

func (c *conn) close() { _ = c.Conn.Close() } // nothing was left to send

// exchange sends c.req and reads c.resp.
func (c *conn) exchange() error {
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if err := c.req.Write(c.w); err != nil {
		return err
	}
	if err := c.w.Flush(); err != nil {
		return err
	}
	return c.resp.Read(c.r)
}
