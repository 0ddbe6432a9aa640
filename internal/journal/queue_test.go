package journal

import (
	"net"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func dialOf(path string) func() (net.Conn, error) {
	return func() (net.Conn, error) { return net.Dial("unixgram", path) }
}

// listen opens the socket of a log daemon.
func listen(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// next reads a datagram; "" if none comes in time.
func next(c net.Conn, within time.Duration) string {
	b := make([]byte, 64<<10)
	_ = c.SetReadDeadline(time.Now().Add(within))
	n, _ := c.Read(b)
	return string(b[:n])
}

// TestQueueNone: without a log daemon the first datagram of a call fails for
// all of them, and none counts as lost or as waiting. A log daemon that comes
// gets the next.
func TestQueueNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	q := NewQueue(8, time.Second, func() (net.Conn, error) {
		c, err := net.Dial("unixgram", path)
		if err != nil {
			return nil, nil
		}
		return c, nil
	}, nil)
	q.Put([]byte("a"), []byte("b"), []byte("c"))
	for end := time.Now().Add(10 * time.Second); q.waiting.Load() != 0; {
		if runtime.Gosched(); time.Now().After(end) {
			t.Fatalf("%d wait", q.waiting.Load())
		}
	}
	c := listen(t, path)
	q.Put([]byte("d"))
	if lost := q.Close(); lost != 0 {
		t.Errorf("%d are lost", lost)
	}
	if got := next(c, 5*time.Second); got != "d" {
		t.Errorf("got %q", got)
	}
	q.Put([]byte("late")) // is no panic
}

// fill writes to the socket of a log daemon until it takes no more.
func fill(t *testing.T, path string) {
	t.Helper()
	c, err := dialOf(path)()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for err == nil {
		_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		_, err = c.Write([]byte("full"))
	}
}

// TestQueueStuck: a log daemon that does not read blocks neither Put nor Close,
// and takes no processor. The loss is reported once it reads again.
func TestQueueStuck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	c := listen(t, path)
	fill(t, path)
	var told atomic.Int64 // the first
	q := NewQueue(8, 20*time.Millisecond, dialOf(path), func(lost int) []byte {
		told.CompareAndSwap(0, int64(lost))
		return []byte("some were lost")
	})
	for end := time.Now().Add(20 * time.Second); q.Lost() < 5; {
		start := time.Now()
		q.Put([]byte("x"))
		if took := time.Since(start); took > time.Second || start.After(end) {
			t.Fatalf("Put took %v, %d are lost", took, q.Lost())
		}
	}
	heard := ""
	for end := time.Now().Add(20 * time.Second); heard != "some were lost"; {
		if heard = next(c, 50*time.Millisecond); heard == "" {
			q.Put([]byte("y"))
		}
		if time.Now().After(end) {
			t.Fatal("the loss is not told")
		}
	}
	fill(t, path)
	for q.Lost() == 0 {
		q.Put([]byte("x"))
	}
	start := time.Now()
	if lost := q.Close(); lost == 0 || time.Since(start) > time.Second {
		t.Errorf("the end took %v, %d are lost", time.Since(start), lost)
	}
	if told.Load() < 5 {
		t.Errorf("%d lost ones are told", told.Load())
	}
}
