// Package target is where the measured peers deliver to: as cheap as it can be, so that it is never the limit.
// It takes the plain POST of the floors, and speaks as much of Salesforce's REST API as Sorrel's connector uses.
package target

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
)

// request is one HTTP/1.1 request with a Content-Length. Body is valid until the handler returns.
type request struct {
	method, path string
	body         []byte
}

// server is a small HTTP server for one known kind of client on loopback.
type server struct {
	listener net.Listener
	handle   func(request) (status int, body []byte)

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	done  sync.WaitGroup
}

func listen(handle func(request) (int, []byte)) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{listener: l, handle: handle, conns: map[net.Conn]struct{}{}}
	s.done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = struct{}{}
			s.mu.Unlock()
			s.done.Go(func() { s.serve(conn) })
		}
	})
	return s, nil
}

func (s *server) close() {
	_ = s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.done.Wait()
}

func (s *server) serve(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	in := bufio.NewReaderSize(conn, 16<<10)
	var body, out []byte
	for {
		r, length, ok := head(in)
		if !ok {
			return
		}
		if cap(body) < length {
			body = make([]byte, length)
		}
		r.body = body[:length]
		if _, err := io.ReadFull(in, r.body); err != nil {
			return
		}
		status, answer := s.handle(r)
		out = append(out[:0], "HTTP/1.1 "...)
		out = strconv.AppendInt(out, int64(status), 10)
		out = append(out, " OK\r\n"...)
		if status != 204 {
			out = append(out, "Content-Type: application/json\r\nContent-Length: "...)
			out = strconv.AppendInt(out, int64(len(answer)), 10)
			out = append(out, "\r\n"...)
		}
		out = append(out, "\r\n"...)
		out = append(out, answer...)
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

func head(in *bufio.Reader) (r request, length int, ok bool) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return r, 0, false
	}
	first := strings.Fields(string(line))
	if len(first) != 3 {
		return r, 0, false
	}
	r.method, r.path = first[0], first[1]
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return r, 0, false
		}
		if len(line) <= 2 {
			return r, length, true
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 || length > 8<<20 {
				return r, 0, false
			}
		}
	}
}
