package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/coatcheck/coatcheck/redisstore/redistest"
)

const (
	pipelined  = 16
	plainConns = 8
	plainKeys  = 100_000
)

// plain sends n times a command, sixteen at a time over each of some connections.
func plain(server *redistest.Server, n int, command func(i int) []string) error {
	var running sync.WaitGroup
	errs := make(chan error, plainConns)
	for c := range plainConns {
		running.Go(func() {
			errs <- pipeline(server.Addr(), c*n/plainConns, (c+1)*n/plainConns, command)
		})
	}
	running.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func pipeline(addr string, from, to int, command func(i int) []string) error {
	conn, err := net.Dial("tcp", addr) //nolint:noctx // the connection ends with the process
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // every reply has been read
	in := bufio.NewReader(conn)
	var out strings.Builder
	for from < to {
		out.Reset()
		sent := min(pipelined, to-from)
		for range sent {
			args := command(from)
			fmt.Fprintf(&out, "*%d\r\n", len(args))
			for _, a := range args {
				fmt.Fprintf(&out, "$%d\r\n%s\r\n", len(a), a)
			}
			from++
		}
		if _, err := conn.Write([]byte(out.String())); err != nil {
			return err
		}
		for range sent {
			if err := readReply(in); err != nil {
				return err
			}
		}
	}
	return nil
}

// readReply reads +OK, or a string.
func readReply(in *bufio.Reader) error {
	line, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	switch {
	case line == "+OK\r\n":
		return nil
	case line[0] != '$' || line[1] == '-':
		return fmt.Errorf("redis answered %q", line)
	}
	_, err = in.Discard(int(number(line[1:])) + 2)
	return err
}

func plainKey(i int) string {
	return fmt.Sprintf("plain:{%08x}:s:%022d", i*7919%plainKeys, i*7919%plainKeys)
}

func plainSet(i int) []string {
	return []string{"SET", plainKey(i), strings.Repeat("x", recordBytes)}
}

func plainGet(i int) []string { return []string{"GET", plainKey(i)} }
