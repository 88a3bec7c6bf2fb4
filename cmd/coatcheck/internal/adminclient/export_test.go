package adminclient

import "net/http"

// Through makes the client send its requests through a transport.
func (c *Client) Through(t http.RoundTripper) { c.client.Transport = t }
