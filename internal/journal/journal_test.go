package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// parse reads an entry of the native protocol.
func parse(t *testing.T, entry string) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for entry != "" {
		line, rest, _ := strings.Cut(entry, "\n")
		name, value, short := strings.Cut(line, "=")
		if !short {
			n := binary.LittleEndian.Uint64([]byte(rest))
			value, rest = rest[8:8+n], rest[8+n+1:]
		}
		if _, twice := fields[name]; twice {
			t.Errorf("%s stands twice", name)
		}
		fields[name], entry = value, rest
	}
	return fields
}

// TestEntries: a line is an entry with its priority, its event and a field for
// each attribute. A value of several lines makes no field of its own.
func TestEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	c := listen(t, path)
	l := Open(Place{Stream: true, Socket: path}, Text{os.Stderr})
	if !l.Journal() {
		t.Fatal("the lines do not go to the journal")
	}
	l.Info("changed", "op", "ip rule add pref 5199", "cause", "start", DigestKey, "sha256:12",
		EventKey, Changed)
	l.With("by", "ann").Warn("two\nlines", "cause", "a\nPRIORITY=0", "level", "x")
	l.Error("long", "error", strings.Repeat("x", 10*mostOfField))
	l.Debug("no log has this")
	l.Close()
	for _, want := range []map[string]string{
		{"MESSAGE": `changed op="ip rule add pref 5199" cause=start`, "PRIORITY": "6", "MESSAGE_ID": string(Changed),
			"LASTHOP_OP": "ip rule add pref 5199", "LASTHOP_CAUSE": "start", "LASTHOP_DIGEST": "sha256:12"},
		{"MESSAGE": "two\nlines " + `cause="a\nPRIORITY=0" level=x by=ann`, "PRIORITY": "4", "LASTHOP_CAUSE": "a\nPRIORITY=0",
			"LASTHOP_BY": "ann", "LASTHOP_LEVEL": "x"},
		{"MESSAGE": ("long error=" + strings.Repeat("x", mostOfField))[:mostOfField], "PRIORITY": "3",
			"LASTHOP_ERROR": strings.Repeat("x", mostOfField)},
	} {
		want["SYSLOG_IDENTIFIER"], want["SYSLOG_FACILITY"] = "lasthop", "3"
		if d := cmp.Diff(want, parse(t, next(c, 5*time.Second))); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
	}
	if text := next(c, 50*time.Millisecond); text != "" {
		t.Errorf("one more: %q", text)
	}
}

// TestText: a stream of the journal has no time and begins with the priority;
// another one has its time. Neither shows what is for fields alone.
func TestText(t *testing.T) {
	for _, tt := range []struct {
		place Place
		want  string
	}{
		{Place{Stream: true}, "<4>level=WARN msg=changed op=x\n"},
		{Place{Stream: true, Socket: "/nonexistent/journal"}, "<4>level=WARN msg=changed op=x\n"},
		{Place{}, "time=TIME level=WARN msg=changed op=x\n"},
	} {
		var b bytes.Buffer
		l := Open(tt.place, Text{&b})
		l.Warn("changed", "op", "x", DigestKey, "sha256:12", EventKey, Changed)
		l.Close()
		got := b.String()
		if at, rest, ok := strings.Cut(got, " "); ok && strings.HasPrefix(at, "time=2") {
			got = "time=TIME " + rest
		}
		if got != tt.want || l.Journal() || l.Lost() != 0 {
			t.Errorf("%+v: got %q, want %q", tt.place, got, tt.want)
		}
	}
	for level, want := range map[slog.Level]string{slog.LevelError: "<3>", slog.LevelWarn: "<4>",
		slog.LevelInfo: "<6>", slog.LevelDebug: "<7>"} {
		if got := Prefix(level); got != want {
			t.Errorf("%s: %s, want %s", level, got, want)
		}
	}
}

// TestStuckJournal: lines that the journal does not take are lost and counted,
// and one line reports the loss once it reads again.
func TestStuckJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	c := listen(t, path)
	l := Open(Place{Stream: true, Socket: path}, Text{os.Stderr})
	for end := time.Now().Add(20 * time.Second); l.Lost() == 0; {
		start := time.Now()
		l.Info("changed")
		if took := time.Since(start); took > time.Second || start.After(end) {
			t.Fatalf("a line took %v, %d are lost", took, l.Lost())
		}
	}
	for end := time.Now().Add(20 * time.Second); ; {
		fields := parse(t, next(c, time.Second))
		if fields["MESSAGE_ID"] == string(LinesLost) {
			if fields["PRIORITY"] != "4" || fields["LASTHOP_LINES"] == "" {
				t.Errorf("got %q", fields)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatal("the loss is not told")
		}
	}
	for end := time.Now().Add(20 * time.Second); l.Lost() > 0; next(c, 10*time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("what is told still counts as lost")
		}
	}
	l.Close()
}

// TestBurst: a journal that reads gets each line of a change with 25,000
// writes, however fast they come.
func TestBurst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	c := listen(t, path)
	l := Open(Place{Stream: true, Socket: path}, Text{os.Stderr})
	const lines = 25000
	for range lines {
		l.Info("changed", "op", "ip rule add pref 5199", EventKey, Changed)
	}
	for n := range lines {
		if next(c, 10*time.Second) == "" {
			t.Fatalf("%d of %d came, %d are lost", n, lines, l.Lost())
		}
	}
	l.Close()
	if lost := l.Lost(); lost > 0 {
		t.Errorf("%d are lost", lost)
	}
}

// TestImportantLines: changes that wait leave room for what is wrong.
func TestImportantLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	c := listen(t, path)
	l := Open(Place{Stream: true, Socket: path}, Text{os.Stderr})
	for l.Lost() == 0 {
		l.Info("changed", "op", "ip rule add pref 5199")
	}
	l.Warn("wrong")
	for end := time.Now().Add(20 * time.Second); ; {
		if parse(t, next(c, 10*time.Second))["MESSAGE"] == "wrong" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the warning is lost")
		}
	}
	l.Close()
}

// TestStream: standard error is a stream of the journal if it has the device
// and inode of $JOURNAL_STREAM.
func TestStream(t *testing.T) {
	if os.Getenv("STREAM") != "" {
		fmt.Println(Stream(), Here().Socket != "")
		return
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	out, err := exec.Command("stat", "-c", "%d:%i", file.Name()).Output()
	if err != nil {
		t.Fatal(err)
	}
	own := strings.TrimSpace(string(out))
	for stream, want := range map[string]string{own: "true true\n", own + "1": "false false\n",
		"gibberish": "false false\n", "": "false false\n"} {
		c := exec.Command(os.Args[0], "-test.run=^TestStream$")
		c.Env = append(os.Environ(), "STREAM=1", "JOURNAL_STREAM="+stream)
		c.Stderr = file
		if out, err := c.Output(); err != nil || !strings.HasPrefix(string(out), want) {
			t.Errorf("%q: %q, %v, want %q", stream, out, err, want)
		}
	}
}
