package journal

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	flushTime   = 100 * time.Millisecond // at the end, for a log daemon that takes nothing
	flushRounds = 10                     // of flushTime, for one that takes datagrams
	tellEvery   = time.Second            // a loss, until it is reported
)

// Queue sends datagrams to the socket of a log daemon, from a task of its own:
// Put never waits for the log daemon. A datagram that the log daemon does not
// take in time is lost, and the queue reports the loss as soon as the log
// daemon takes datagrams again. A restarted log daemon gets what comes then.
type Queue struct {
	// Set at the start.
	dial     func() (net.Conn, error) // neither: there is no log daemon
	patience time.Duration            // with one datagram
	tell     func(lost int) []byte    // the datagram that reports a loss
	putC     chan [][]byte
	stop     func()
	stopC    chan struct{}
	ended    chan struct{}

	waiting, lost atomic.Int64 // datagrams; lost is 0 again once it is reported

	conn net.Conn // of the task; nil if there is none
}

// NewQueue starts the task of a queue of so many calls of Put.
func NewQueue(size int, patience time.Duration, dial func() (net.Conn, error),
	tell func(lost int) []byte) *Queue {
	q := &Queue{dial: dial, patience: patience, tell: tell, putC: make(chan [][]byte, size),
		stopC: make(chan struct{}), ended: make(chan struct{})}
	q.stop = sync.OnceFunc(func() { close(q.stopC) })
	go q.run()
	return q
}

// Put queues datagrams that belong together. It does not wait.
func (q *Queue) Put(datagrams ...[]byte) {
	n := int64(len(datagrams))
	q.waiting.Add(n)
	select {
	case q.putC <- datagrams:
	default:
		q.waiting.Add(-n)
		q.lost.Add(n)
	}
}

// Offer queues a datagram of low importance: an eighth of the queue stays free
// for other ones.
func (q *Queue) Offer(datagram []byte) {
	if len(q.putC) >= cap(q.putC)*7/8 {
		q.lost.Add(1)
		return
	}
	q.Put(datagram)
}

// Lost returns how many datagrams were lost since the last that was taken.
func (q *Queue) Lost() int { return int(q.lost.Load()) }

// Close ends the task, and returns how many datagrams are lost. It waits as
// long as the log daemon takes some, a second at most.
func (q *Queue) Close() (lost int) {
	q.stop()
	for range flushRounds {
		waiting, lost := q.waiting.Load(), q.lost.Load()
		select {
		case <-q.ended:
			return q.Lost()
		case <-time.After(flushTime):
		}
		if q.waiting.Load() == waiting || q.lost.Load() > lost {
			break
		}
	}
	return int(q.lost.Load() + q.waiting.Load())
}

// run hands datagrams over until the queue is closed and empty.
func (q *Queue) run() {
	defer close(q.ended)
	defer func() {
		if q.conn != nil {
			q.conn.Close()
		}
	}()
	for {
		var again <-chan time.Time
		if q.Lost() > 0 {
			again = time.After(tellEvery)
		}
		select {
		case list := <-q.putC:
			q.hand(list)
		case <-again:
			q.tellLoss()
		case <-q.stopC:
			select {
			case list := <-q.putC:
				q.hand(list)
			default:
				return
			}
		}
	}
}

// tellLoss reports to the log daemon what was lost.
func (q *Queue) tellLoss() {
	lost := q.lost.Load()
	if lost > 0 && q.send(q.tell(int(lost))) == nil {
		q.lost.Add(-lost)
	}
}

// hand sends datagrams that belong together to the log daemon. If the first
// fails because there is none, it does not try the next ones.
func (q *Queue) hand(list [][]byte) {
	for i, datagram := range list {
		err := q.send(datagram)
		if err == nil && q.conn == nil {
			q.waiting.Add(int64(i - len(list)))
			return
		}
		q.waiting.Add(-1)
		if err != nil {
			q.lost.Add(1)
		} else {
			q.tellLoss()
		}
	}
}

// send sends a datagram. The previous connection may be one to a log daemon
// that has ended since: then it tries a second time. A machine without a log
// daemon is no reason to complain.
func (q *Queue) send(datagram []byte) (err error) {
	for range 2 {
		if q.conn == nil {
			if q.conn, err = q.dial(); err != nil || q.conn == nil {
				q.conn = nil
				return err
			}
		}
		_ = q.conn.SetWriteDeadline(time.Now().Add(q.patience))
		if _, err = q.conn.Write(datagram); err == nil {
			return nil
		}
		q.conn.Close()
		q.conn = nil
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	return err
}
