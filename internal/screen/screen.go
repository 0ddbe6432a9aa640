// Package screen shows a text that changes: on a terminal in place, on its
// alternate screen, so that what was there before is back at the end; elsewhere
// each text below the one before, with an empty line between.
//
// A text is drawn over the one before in one write, and each line is erased
// from its end on: nothing flickers. What does not fit is cut.
package screen

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Control sequences of ECMA-48 and xterm.
const (
	begin = "\x1b[?1049h\x1b[?25l\x1b[?7l" // alternate screen, no cursor, no wrapping
	end   = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	home  = "\x1b[H"
	eol   = "\x1b[K" // erases to the end of the line
	rest  = "\x1b[J" // erases to the end of the screen
)

// Screen shows texts. The zero value is of no use: see Open.
type Screen struct {
	out      io.Writer
	terminal *os.File // nil: out is none
	shown    string   // last
}

// Open takes a terminal, or another place to write to. The caller closes the
// screen.
func Open(out io.Writer) *Screen {
	s := &Screen{out: out}
	if f, ok := out.(*os.File); ok && os.Getenv("TERM") != "dumb" && height(f) > 1 {
		s.terminal = f
		fmt.Fprint(out, begin)
	}
	return s
}

// height returns the rows of a terminal; 0 if f is none.
func height(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Row)
}

// Terminal reports whether texts are shown in place.
func (s *Screen) Terminal() bool { return s.terminal != nil }

// Show shows a text, unless it is shown already. It returns the error of the
// write.
func (s *Screen) Show(text string) error {
	frame, between := text, ""
	if s.terminal != nil {
		frame = draw(text, height(s.terminal))
	} else if s.shown != "" {
		between = "\n"
	}
	if frame == s.shown {
		return nil
	}
	s.shown = frame
	_, err := io.WriteString(s.out, between+frame)
	return err
}

// draw returns what draws a text over what is on a screen of that many rows.
func draw(text string, rows int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if more := len(lines) - rows + 1; rows > 1 && len(lines) > rows {
		lines = append(lines[:rows-1], fmt.Sprintf("... and %d more lines", more))
	}
	return home + strings.Join(lines, eol+"\r\n") + eol + rest
}

// Close gives the terminal back.
func (s *Screen) Close() {
	if s.terminal != nil {
		fmt.Fprint(s.out, end)
	}
}
