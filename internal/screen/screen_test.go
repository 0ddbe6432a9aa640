package screen

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestNoTerminal: each text once, below the one before, without a control
// sequence.
func TestNoTerminal(t *testing.T) {
	var b bytes.Buffer
	s := Open(&b)
	for _, text := range []string{"one\n", "one\n", "two\n"} {
		if err := s.Show(text); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	if d := cmp.Diff("one\n\ntwo\n", b.String()); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// pty returns the two ends of a terminal of that many rows.
func pty(t *testing.T, rows int) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	resize(t, master, rows)
	return master, slave
}

func resize(t *testing.T, master *os.File, rows int) {
	t.Helper()
	err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ,
		&unix.Winsize{Row: uint16(rows), Col: 80})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTerminal: in place, only what has changed, cut to the rows of the moment,
// and the screen is given back.
func TestTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	master, slave := pty(t, 3)
	s := Open(slave)
	if !s.Terminal() {
		t.Fatal("no terminal")
	}
	long := "1\n2\n3\n4\n"
	for _, text := range []string{"one\ntwo\n", "one\ntwo\n", long} {
		if err := s.Show(text); err != nil {
			t.Fatal(err)
		}
	}
	resize(t, master, 10)
	if err := s.Show(long); err != nil {
		t.Fatal(err)
	}
	s.Close()
	slave.Close()
	var got strings.Builder
	_, _ = io.Copy(&got, master) // ends with EIO
	want := begin +
		home + "one" + eol + "\r\ntwo" + eol + rest +
		home + "1" + eol + "\r\n2" + eol + "\r\n... and 2 more lines" + eol + rest +
		home + "1" + eol + "\r\n2" + eol + "\r\n3" + eol + "\r\n4" + eol + rest + end
	// the terminal makes \r\n of \n
	if d := cmp.Diff(want, strings.ReplaceAll(got.String(), "\r\r\n", "\r\n")); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestDumb: TERM=dumb has no control sequences.
func TestDumb(t *testing.T) {
	t.Setenv("TERM", "dumb")
	_, slave := pty(t, 3)
	defer slave.Close()
	if Open(slave).Terminal() {
		t.Error("a terminal without control sequences is drawn on")
	}
}
