package redistest

import (
	"bufio"
	"context"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Proxy stands between a client and a server and simulates the faults of a network.
type Proxy struct {
	l       net.Listener
	answers func(*Proxy, *link) // copies what the server sends

	mu     sync.Mutex
	target string         // guarded by mu
	links  map[*link]bool // guarded by mu
	hole   bool           // guarded by mu
	hold   bool           // guarded by mu
	lose   bool           // guarded by mu
	wake   *sync.Cond     // on mu: hole or hold changed, or a link ended
}

// link is one connection of a client, and the connection to the server that belongs to it.
type link struct {
	client, server net.Conn
	over           bool // guarded by the proxy's mu
}

// Between starts a proxy to the server at addr, for clients that speak RESP3.
func Between(t testing.TB, addr string) *Proxy {
	t.Helper()
	return between(t, addr, (*Proxy).back)
}

// BetweenServers starts a proxy for replicas of the server at addr. It cannot tell messages from each other.
func BetweenServers(t testing.TB, addr string) *Proxy {
	t.Helper()
	return between(t, addr, (*Proxy).backRaw)
}

func between(t testing.TB, addr string, back func(*Proxy, *link)) *Proxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: addr, l: l, answers: back, links: map[*link]bool{}}
	p.wake = sync.NewCond(&p.mu)
	var running sync.WaitGroup
	running.Go(func() { p.accept(&running) })
	t.Cleanup(func() {
		_ = l.Close()
		p.Cut()
		running.Wait()
	})
	return p
}

// Lead makes new connections go to another server, as a load balancer does after a failover. Those that exist stay.
func (p *Proxy) Lead(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
}

// Addr is where clients connect.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Swallow silently discards what both sides send, as a link that was cut does, or stops doing so; the connections whose
// bytes were discarded are closed then. New connections are accepted, as a server's kernel does, but get no answer.
func (p *Proxy) Swallow(on bool) {
	if !on {
		p.Cut()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hole = on
	p.wake.Broadcast()
}

// HoldNews holds Redis' push messages back while later answers pass, or lets them go. It needs RESP3 in the client's
// direction, and reorders messages, which Redis never does.
func (p *Proxy) HoldNews(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = on
	p.wake.Broadcast()
}

// LoseAnswer discards the next answer of the server and cuts the connection that it was meant for.
func (p *Proxy) LoseAnswer() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = true
}

// loses reports whether this answer is the one to discard.
func (p *Proxy) loses() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	lose := p.lose
	p.lose = false
	return lose
}

// Cut closes all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.over = true
		_ = l.client.Close()
		_ = l.server.Close()
	}
	clear(p.links)
	p.wake.Broadcast()
}

func (p *Proxy) accept(running *sync.WaitGroup) {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		server, err := (&net.Dialer{Timeout: time.Second}).Dial("tcp", target)
		if err != nil {
			_ = client.Close()
			continue
		}
		l := &link{client: client, server: server}
		p.mu.Lock()
		p.links[l] = true
		p.mu.Unlock()
		running.Go(func() { p.copy(l, l.server, l.client) })
		running.Go(func() { p.answers(p, l) })
	}
}

// copy copies bytes as they come.
func (p *Proxy) copy(l *link, to, from net.Conn) {
	defer p.end(l)
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if p.swallowing() {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *Proxy) backRaw(l *link) { p.copy(l, l.client, l.server) }

func (p *Proxy) swallowing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hole
}

// back copies what the server answers, message by message.
func (p *Proxy) back(l *link) {
	defer p.end(l)
	news := make(chan []byte, 1<<20)
	var running sync.WaitGroup
	defer running.Wait()
	defer close(news)
	var writing sync.Mutex // one message at a time
	write := func(b []byte) error {
		if p.swallowing() {
			return nil
		}
		writing.Lock()
		defer writing.Unlock()
		_, err := l.client.Write(b)
		return err
	}
	running.Go(func() {
		for b := range news {
			p.waitForNews(l)
			_ = write(b)
		}
	})
	r := bufio.NewReader(l.server)
	for {
		msg, err := readMessage(r, nil)
		if err != nil {
			return
		}
		switch {
		case msg[0] == '>' && p.holding():
			news <- msg
		case msg[0] != '>' && p.loses() || write(msg) != nil:
			return
		}
	}
}

func (p *Proxy) holding() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hold
}

func (p *Proxy) waitForNews(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.hold && !l.over {
		p.wake.Wait()
	}
}

func (p *Proxy) end(l *link) {
	_ = l.client.Close()
	_ = l.server.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	l.over = true
	delete(p.links, l)
	p.wake.Broadcast()
}

// readMessage reads one RESP message, nested ones included, and appends it to b as it is.
func readMessage(r *bufio.Reader, b []byte) ([]byte, error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	b = append(b, line...)
	if len(line) < 3 {
		return b, nil
	}
	n, _ := strconv.Atoi(string(line[1 : len(line)-2])) // not a number in messages that have no more than a line
	switch {
	case n <= 0 && line[0] != '$':
		return b, nil
	case n < 0: // no string
		return b, nil
	case line[0] == '$' || line[0] == '=' || line[0] == '!':
		start := len(b)
		b = append(b, make([]byte, n+2)...)
		_, err := io.ReadFull(r, b[start:])
		return b, err
	case line[0] == '%' || line[0] == '|':
		n *= 2
	case line[0] != '*' && line[0] != '~' && line[0] != '>':
		return b, nil
	}
	for range n {
		if b, err = readMessage(r, b); err != nil {
			return nil, err
		}
	}
	return b, nil
}
