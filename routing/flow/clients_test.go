package flow

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lasthop/internal/nstest"

	"golang.org/x/sys/unix"
)

// clients ask a server over TCP, in few system calls, so that most of the
// processor is left for what is measured.
type clients struct {
	from *nstest.NS
	to   string
	n    int
	rate float64 // requests a second of all together; 0 is as many as can be
	keep bool    // connections, of which each request needs a new one otherwise
	// pinned says that they share the first core with what they ask: then
	// chance does not decide which core does the kernel's work for a
	// packet.
	pinned bool
}

func firstCore() *unix.CPUSet {
	var s unix.CPUSet
	s.Set(0)
	return &s
}

// ask asks for a time, and returns how many requests were answered.
func (c clients) ask(d time.Duration) int {
	var all sync.WaitGroup
	var answered atomic.Int64
	for range c.n {
		all.Go(func() {
			c.from.Do(func() { // on a thread that ends with it
				if c.pinned {
					_ = unix.SchedSetaffinity(0, firstCore())
				}
				answered.Add(c.one(d))
			})
		})
	}
	all.Wait()
	return int(answered.Load())
}

// one is one of the clients.
func (c clients) one(d time.Duration) (answered int64) {
	fd := -1
	defer func() { hangUp(fd) }()
	b := make([]byte, 1024)
	begun := time.Now()
	for sent := 0; time.Since(begun) < d; sent++ {
		due := time.Duration(float64(sent*c.n) / max(c.rate, 1) * float64(time.Second))
		if early := due - time.Since(begun); c.rate > 0 && early > time.Millisecond {
			<-time.After(min(early, d))
		}
		if fd < 0 {
			fd = dial(c.to)
		}
		_, err := unix.Write(fd, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		n := 0
		if err == nil {
			n, err = unix.Read(fd, b)
		}
		if err == nil && n > 0 {
			answered++
		}
		if !c.keep || err != nil || n == 0 {
			hangUp(fd)
			fd = -1
		}
	}
	return answered
}

// dial returns a connected socket, or one on which nothing works.
func dial(to string) int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	second := unix.Timeval{Sec: 1}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &second)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &second)
	_ = unix.Connect(fd, socketAddr(to)) // else the write fails
	return fd
}

// hangUp closes with a RST, which leaves no TIME-WAIT.
func hangUp(fd int) {
	if fd >= 0 {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER,
			&unix.Linger{Onoff: 1})
		unix.Close(fd)
	}
}

// TestClients: requests are counted where a server answers, at the rate that
// was asked for, and nowhere else.
func TestClients(t *testing.T) {
	s := nstest.NewStreet(t)
	s.Serve(s.Host, "10.7.0.10:80")
	for _, keep := range []bool{false, true} {
		c := clients{from: s.Client, to: "10.7.0.10:80", n: 2, rate: 200, keep: keep}
		if n := c.ask(nstest.Patience(time.Second)); n < 50 {
			t.Errorf("keep %v: %d requests were answered, want about 200", keep, n)
		}
		c.to = "10.7.0.10:81"
		if n := c.ask(10 * time.Millisecond); n > 0 {
			t.Errorf("keep %v: %d requests got no answer", keep, n)
		}
	}
}
