// Package journal writes log lines: with fields to systemd's journal, or as
// text to a stream.
//
// A service whose standard error is a stream of the journal (Stream) sends its
// lines to the journal's own socket: each has a PRIORITY, its attributes as
// fields LASTHOP_OP, LASTHOP_CAUSE, and so on, and a MESSAGE_ID, by which
// `journalctl -x` finds its entry in deploy/lasthop.catalog. Without the
// socket, lines of text begin with their priority, `<4>`, as in sd-daemon(3).
//
// Nothing here waits. The package does not use go-systemd's journal.Send: it
// has no deadline, and while the journal does not read, it takes a whole
// processor, since the poller of an unconnected socket always finds it ready. A
// Queue has a connected socket and a task of its own; if the log is stuck, its
// lines are lost.
package journal

import (
	"log/slog"
	"net"
	"time"

	sd "github.com/coreos/go-systemd/v22/journal"
)

// Socket is where systemd-journald takes datagrams of its native protocol.
const Socket = "/run/systemd/journal/socket"

// Stream reports whether standard error is a stream of the journal: the device
// and inode of $JOURNAL_STREAM are its own (systemd.exec(5)). A program that a
// service starts inherits the variable, but not always the stream.
func Stream() bool {
	is, err := sd.StderrIsJournalStream()
	return is && err == nil
}

// Place is where log lines go. The zero value is text with its time.
type Place struct {
	Stream bool   // text goes to a stream of the journal
	Socket string // of the journal; "" for text
}

// Here returns the place of this process.
func Here() Place {
	if !Stream() {
		return Place{}
	}
	return Place{Stream: true, Socket: Socket}
}

const (
	// lines that wait for a busy journal: the changes of a start with
	// 10,000 listeners that share no rule
	queued   = 32 << 10
	patience = 5 * time.Second // with it
)

// Log is a logger, and what it has lost.
type Log struct {
	*slog.Logger
	queue *Queue // nil for text
}

// Open opens a log at a place. Text goes to the handler's stream, also if no
// daemon listens on the socket.
func Open(p Place, text Text) *Log {
	dial := func() (net.Conn, error) { return net.DialTimeout("unixgram", p.Socket, patience) }
	if p.Socket != "" {
		if c, err := dial(); err == nil {
			c.Close()
			q := NewQueue(queued, patience, dial, lostLines)
			return &Log{slog.New(handler{queue: q}), q}
		}
	}
	return &Log{slog.New(text.handler(p.Stream)), nil}
}

// Journal reports whether lines go to the journal with their fields.
func (l *Log) Journal() bool { return l.queue != nil }

// Lost returns how many lines were lost since the journal last took one.
func (l *Log) Lost() int {
	if l.queue == nil {
		return 0
	}
	return l.queue.Lost()
}

// Close gives the journal a moment to take the waiting lines. Later lines are
// lost.
func (l *Log) Close() {
	if l.queue != nil {
		l.queue.Close()
	}
}
