package writer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"lasthop/internal/hint"
	"lasthop/routing"
)

// ending are the signals that would end this process, or stop it. SIGHUP comes
// when the terminal is gone; SIGPIPE comes when the process then prints to it.
var ending = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE,
	syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGALRM, syscall.SIGUSR1, syscall.SIGUSR2}

// background are the signals that stop a process in the background that uses
// its terminal.
var background = []os.Signal{syscall.SIGTTIN, syscall.SIGTTOU}

// lastWords is how long the end of a trial that went back waits for a report
// that is being printed.
const lastWords = time.Second

// Trial is a change that goes back by itself unless the user confirms it. The
// time counts from Try, before the first write.
type Trial struct {
	writer  *Writer
	timer   *time.Timer // nil if nothing has to be confirmed
	signalC chan os.Signal
	change  Change
	done    []routing.Op
}

// Talk is how a trial talks with the user. Each part may block for ever: the
// trial goes back in time nevertheless.
type Talk struct {
	Show    func() error // prints the report
	Ask     func()       // prints the question that a line answers
	Answers io.Reader
	Undo    <-chan string // why to go back immediately; nil if nothing reports that
}

// Try begins a trial. From now on no signal except SIGKILL ends this process,
// and the time runs. End must be called. With a time of 0 the change is made
// for good.
func (w *Writer) Try(within time.Duration) *Trial {
	t := &Trial{writer: w, signalC: make(chan os.Signal, 1)}
	if within > 0 {
		signal.Notify(t.signalC, ending...)
		signal.Ignore(background...)
		t.timer = time.NewTimer(within)
	}
	return t
}

// Write is Writer.Write for the one change of the trial.
func (t *Trial) Write(c Change) (done []routing.Op, err error) {
	t.change = c
	t.done, err = t.writer.Write(c)
	return t.done, err
}

// End shows what was done. If something was written, it waits until the user
// confirms it, and returns nil. It goes back and returns an error if something
// has failed, if the answer is another one or comes too late, if talk.Undo
// gives a reason, or if a signal would have ended the process. The end of input
// is no answer.
func (t *Trial) End(failed error, talk Talk) error {
	switch {
	case failed != nil && len(t.done) == 0:
		t.disarm()
		return failed
	case t.timer == nil || len(t.done) == 0:
		t.disarm()
		return errors.Join(failed, talk.Show())
	}
	shownC, answerC, over := make(chan error, 1), make(chan string, 1), make(chan struct{})
	if failed != nil { // before anything is shown, or it might still ask
		close(over)
	}
	go talk.hold(shownC, answerC, over)
	why := "that did not work"
	if failed == nil {
		if why, failed = t.wait(shownC, answerC, talk.Undo); why == "" {
			t.disarm()
			return nil
		}
		close(over)
	}
	err := errors.Join(failed, t.goBack(why))
	select {
	case shown := <-shownC:
		err = errors.Join(shown, err)
	case <-time.After(lastWords):
	}
	// The signals stay caught: the caller still has an exit code to return,
	// and a message to print to a terminal that may be gone.
	return err
}

// hold shows, asks, and sends the first line of the answer. It asks nothing
// once the trial is over.
func (t Talk) hold(shownC chan<- error, answerC chan<- string, over <-chan struct{}) {
	err := t.Show()
	shownC <- err
	close(shownC)
	select {
	case <-over:
		return
	default:
	}
	if err != nil {
		return
	}
	t.Ask()
	if line, err := bufio.NewReader(t.Answers).ReadString('\n'); err == nil {
		answerC <- line
	}
}

// wait returns why the change must be taken back, "" if it is kept.
func (t *Trial) wait(shownC <-chan error, answerC, undoC <-chan string) (why string, err error) {
	for {
		select {
		case err := <-shownC:
			if err != nil {
				return "that did not work", err
			}
			shownC = nil
		case line := <-answerC:
			switch strings.ToLower(strings.TrimSpace(line)) {
			case "", "y", "yes":
				return "", nil
			}
			return "not confirmed", nil
		case why := <-undoC:
			return why, nil
		case s := <-t.signalC:
			return "interrupted by " + s.String(), nil
		case <-t.timer.C:
			return "not confirmed in time", nil
		}
	}
}

// goBack makes the kernel hold what lasthop owned before, and reads it back. It
// tries again: another program may write too, or a request may fail once.
func (t *Trial) goBack(why string) error {
	c := t.change
	back := Change{Command: c.Command + " went back", By: c.By, Digest: c.Digest,
		Numbers: c.Numbers, After: c.Before, Grouped: c.Grouped}
	var failed error
	for range 3 {
		h, err := t.writer.machine.Read()
		if err != nil {
			failed = fmt.Errorf("%s, and the undo failed: %w", why, err)
			continue
		}
		back.Before = routing.Owned(h, c.Numbers)
		back.Diff = routing.Compare(back.Before, c.Before)
		if back.Diff.Empty() {
			return hint.New(fmt.Errorf("%s: lasthop undid the change, all is as "+
				"before", why),
				"run it again and press Enter to keep it")
		}
		_, err = t.writer.Write(back)
		failed = errors.Join(fmt.Errorf("%s, and lasthop could not undo all of "+
			"it", why), err)
	}
	return failed
}

// disarm lets signals end this process again.
func (t *Trial) disarm() {
	if t.timer != nil {
		t.timer.Stop()
		signal.Stop(t.signalC)
		signal.Reset(background...)
	}
}
