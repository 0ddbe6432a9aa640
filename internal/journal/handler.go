package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/journal"
)

// mostOfField is how long a field may be, in bytes: an entry has to fit into a
// datagram.
const mostOfField = 8 << 10

// DigestKey is the key of an attribute that only the journal gets, as a field.
const DigestKey = "digest"

// priority is the one of syslog(3) for a level.
func priority(l slog.Level) sd.Priority {
	switch {
	case l >= slog.LevelError:
		return sd.PriErr
	case l >= slog.LevelWarn:
		return sd.PriWarning
	case l >= slog.LevelInfo:
		return sd.PriInfo
	}
	return sd.PriDebug
}

// Prefix is a priority in front of a line of text, as in sd-daemon(3).
func Prefix(l slog.Level) string { return fmt.Sprintf("<%d>", priority(l)) }

// Text is a stream of lines of text.
type Text struct{ io.Writer }

// handler writes lines as slog.TextHandler does. The journal has its own time,
// and finds the priority in front.
func (t Text) handler(stream bool) slog.Handler {
	return slog.NewTextHandler(t, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			level, isLevel := a.Value.Any().(slog.Level)
			switch {
			case a.Key == EventKey || a.Key == DigestKey ||
				stream && a.Key == slog.TimeKey:
				return slog.Attr{}
			case stream && isLevel:
				a.Key = Prefix(level) + a.Key
			}
			return a
		}})
}

// handler is a slog.Handler that makes entries of the journal.
type handler struct {
	queue *Queue
	attrs []slog.Attr
}

func (h handler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.queue, slices.Concat(h.attrs, attrs)}
}

// WithGroup has no meaning among the fields of an entry.
func (h handler) WithGroup(string) slog.Handler { return h }

func (h handler) Handle(_ context.Context, r slog.Record) error {
	r.AddAttrs(h.attrs...)
	if r.Level < slog.LevelWarn {
		h.queue.Offer(entry(r))
	} else {
		h.queue.Put(entry(r))
	}
	return nil
}

// entry is a record in the journal's native protocol. The message ends with the
// attributes, for people; each is a field, too.
// https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
func entry(r slog.Record) []byte {
	var b bytes.Buffer
	field(&b, "MESSAGE", r.Message+shown(r))
	field(&b, "PRIORITY", fmt.Sprint(int(priority(r.Level))))
	field(&b, "SYSLOG_IDENTIFIER", "lasthop")
	field(&b, "SYSLOG_FACILITY", "3") // daemon
	r.Attrs(func(a slog.Attr) bool {
		name := "LASTHOP_" + strings.ToUpper(a.Key)
		if a.Key == EventKey {
			name = "MESSAGE_ID"
		}
		field(&b, name, a.Value.String())
		return true
	})
	return b.Bytes()
}

// shown are the attributes of a record as text, with a blank in front.
func shown(r slog.Record) string {
	var b strings.Builder
	text := slog.NewRecord(time.Time{}, r.Level, "", 0)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != EventKey && a.Key != DigestKey {
			text.AddAttrs(a)
		}
		return true
	})
	own := map[string]bool{slog.LevelKey: true, slog.MessageKey: true}
	_ = slog.NewTextHandler(&b, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if own[a.Key] {
				delete(own, a.Key) // an attribute may have the same key
				return slog.Attr{}
			}
			return a
		}}).Handle(context.Background(), text)
	if s := strings.TrimSuffix(b.String(), "\n"); s != "" {
		return " " + s
	}
	return ""
}

// field appends a field. A value of several lines has its length in front.
func field(b *bytes.Buffer, name, value string) {
	value = value[:min(len(value), mostOfField)]
	if !strings.Contains(value, "\n") {
		fmt.Fprintf(b, "%s=%s\n", name, value)
		return
	}
	fmt.Fprintln(b, name)
	b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
	fmt.Fprintln(b, value)
}

// lostLines is the entry that reports them.
func lostLines(n int) []byte {
	r := slog.NewRecord(time.Time{}, slog.LevelWarn,
		"log lines lost: the journal did not take them in time", 0)
	r.AddAttrs(slog.Any(EventKey, LinesLost), slog.Int("lines", n))
	return entry(r)
}
