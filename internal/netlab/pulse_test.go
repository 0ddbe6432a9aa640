package netlab

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pulse sends requests while events happen: for each listener one of each
// class, by a connection that stays open, and by datagrams. Each message has a
// number, which comes back.
type pulse struct {
	*built
	mu    sync.Mutex
	lines []*line
	end   chan struct{}
	ended sync.WaitGroup
}

// line is one of these requests, by one protocol.
type line struct {
	request  int
	how      protocol
	fd       int // -1: not open
	first    uint64
	sent     []time.Time
	answered []bool
	rest     []byte // the first part of an answer
}

const (
	beat  = 50 * time.Millisecond
	grace = time.Second // after it, an answer by datagrams is lost; a connection repeats
)

// newPulse goes on with some of the answered requests.
func newPulse(b *built, got answers) *pulse {
	p := &pulse{built: b, end: make(chan struct{})}
	seen := map[string]bool{}
	for i, q := range b.Requests {
		if q.Listener == nil || q.Class == banned || !got.all(i) {
			continue
		}
		key := fmt.Sprint(q.Listener.Addr, q.Class, q.Way.Link)
		if !seen[key] {
			seen[key] = true
			p.lines = append(p.lines, &line{request: i, how: tcp, fd: -1},
				&line{request: i, how: udp, fd: -1})
		}
	}
	p.ended.Go(p.run)
	return p
}

// run sends and receives until close.
func (p *pulse) run() {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-p.end:
			return
		case now := <-tick.C:
			p.mu.Lock()
			for _, l := range p.lines {
				l.receive()
				l.send(now)
			}
			p.mu.Unlock()
		}
	}
}

func (p *pulse) close() {
	close(p.end)
	p.ended.Wait()
	for _, l := range p.lines {
		l.close()
	}
}

// send sends the next number.
func (l *line) send(now time.Time) {
	if l.fd < 0 {
		return
	}
	m := binary.BigEndian.AppendUint64(nil, l.first+uint64(len(l.sent)))
	_, err := unix.Write(l.fd, m)
	if l.how == tcp && err != nil {
		if err != unix.EAGAIN { // it is not connected yet
			l.close()
		}
		return
	}
	l.sent, l.answered = append(l.sent, now), append(l.answered, false)
}

// receive takes the numbers that have come back.
func (l *line) receive() {
	for b := make([]byte, 512); l.fd >= 0; {
		n, err := unix.Read(l.fd, b)
		if n <= 0 {
			if l.how == tcp && err != unix.EAGAIN && err != unix.ENOTCONN {
				l.close()
			}
			return
		}
		l.rest = append(l.rest, b[:n]...)
		for ; len(l.rest) >= 8; l.rest = l.rest[8:] {
			k := binary.BigEndian.Uint64(l.rest) - l.first
			if k < uint64(len(l.answered)) {
				l.answered[k] = true
			}
		}
	}
}

func (l *line) close() {
	if l.fd >= 0 {
		unix.Close(l.fd)
	}
	l.fd = -1
}

// sound reports whether a line works: the last message but one was answered.
func (l *line) sound() bool {
	n := len(l.answered)
	return l.fd >= 0 && n > 2 && l.answered[n-2]
}

// open opens a line again. Old answers do not count.
func (p *pulse) open(l *line) (err error) {
	l.close()
	l.first += uint64(len(l.sent))
	l.sent, l.answered, l.rest = nil, nil, nil
	q := p.Requests[l.request]
	kind, port := unix.SOCK_STREAM, portTCP
	if l.how == udp {
		kind, port = unix.SOCK_DGRAM, portUDP
	}
	domain := unix.AF_INET
	if !q.Client.Addr.Is4() {
		domain = unix.AF_INET6
	}
	p.spaces[q.asker()].Do(func() {
		l.fd, err = unix.Socket(domain, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			l.fd = -1
			return
		}
		if err = q.connect(l.fd, port); err == unix.EINPROGRESS || unreachable(err) {
			err = nil
		}
	})
	return err
}

// ready opens the wanted lines that do not work, and closes all other lines. It
// waits a little until they work, and leaves out the rest until the next time.
func (p *pulse) ready(wanted func(int) bool) (err error) {
	p.mu.Lock()
	for _, l := range p.lines {
		l.receive()
		switch {
		case !wanted(l.request):
			l.close()
		case !l.sound():
			if e := p.open(l); e != nil {
				err = fmt.Errorf("ask %s: %w", p.Requests[l.request], e)
			}
		}
	}
	p.mu.Unlock()
	p.until(time.Now().Add(grace), func(l *line) bool { return l.fd < 0 || l.sound() })
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lines {
		if !l.sound() {
			l.close()
			l.sent, l.answered = nil, nil
		}
	}
	return err
}

// until waits until all lines are as wanted, or the time is up.
func (p *pulse) until(end time.Time, good func(*line) bool) {
	for time.Now().Before(end) {
		all := true
		p.mu.Lock()
		for _, l := range p.lines {
			all = all && good(l)
		}
		p.mu.Unlock()
		if all {
			return
		}
		time.Sleep(beat)
	}
}

// window counts what one line sent from one moment to another.
type window struct {
	*line
	sent, lost int
	gap        time.Duration // from the first that was lost to the last
	over       bool          // later ones were answered
}

// during returns the windows of the lines that worked at the first moment. It
// waits for answers that are on their way.
func (p *pulse) during(from, to time.Time) (out []window) {
	p.until(time.Now().Add(grace), func(l *line) bool { return l.within(from, to).lost == 0 })
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lines {
		if w := l.within(from, to); w.sent+w.lost > 0 {
			out = append(out, w)
		}
	}
	return out
}

// within counts the messages of a line that worked before. A line that an error
// has closed has lost what it would have sent.
func (l *line) within(from, to time.Time) window {
	w := window{line: l}
	var first, last time.Time
	worked := false
	for i, at := range l.sent {
		switch {
		case at.Before(from):
			worked = worked || l.answered[i]
		case at.Before(to) && worked:
			w.over = l.answered[i]
			if w.sent++; !l.answered[i] {
				if w.lost++; first.IsZero() {
					first = at
				}
				last = at
			}
		}
	}
	if w.lost > 0 {
		w.gap = last.Sub(first) + beat
	}
	if worked && l.fd < 0 {
		w.lost++
	}
	return w
}
