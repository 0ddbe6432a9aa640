package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"lasthop/internal/screen"
	"lasthop/report"
)

// watchEvery is how often Watch asks: the daemon encodes each status once, for
// all who ask.
const watchEvery = time.Second

// Watch shows how the daemon is, in a format (text or json), and again after
// each change, until ctx ends or a signal interrupts it: that is no error. A
// daemon that ends or does not answer is a change, too. It returns the error of
// a write.
func (c Client) Watch(ctx context.Context, w io.Writer, format string, style report.Style) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	show := showText
	if format == "json" {
		show = showLines
	}
	next, end := show(w, style)
	defer end()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		s, err := c.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := next(s, err); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// look asks how the daemon is.
func (c Client) look(ctx context.Context) (report.Status, error) {
	var s report.Status
	err := c.ask(ctx, http.MethodGet, pathStatus, nil, &s)
	return s, err
}

// absence is what is told in place of a status.
func absence(err error) report.Absence {
	a := report.Absence{Time: time.Now(), State: "no answer", Why: err.Error()}
	if errors.Is(err, ErrNone) {
		a.State = "not running"
	}
	return a
}

// showText shows texts: all on a terminal, elsewhere those with news.
func showText(w io.Writer, style report.Style) (func(report.Status, error) error, func()) {
	out, isNew := screen.Open(w), newsOf()
	return func(s report.Status, err error) error {
		if !isNew(s, err) && !out.Terminal() {
			return nil
		}
		var b bytes.Buffer
		if err != nil {
			err = absence(err).Text(&b, style)
		} else {
			err = s.Text(&b, style)
		}
		return errors.Join(err, out.Show(b.String()))
	}, out.Close
}

// showLines writes a document on a line for each piece of news.
func showLines(w io.Writer, _ report.Style) (func(report.Status, error) error, func()) {
	isNew := newsOf()
	return func(s report.Status, err error) error {
		if !isNew(s, err) {
			return nil
		}
		var doc, line bytes.Buffer
		if err != nil {
			err = absence(err).JSON(&doc)
		} else {
			err = s.JSON(&doc)
		}
		err = errors.Join(err, json.Compact(&line, doc.Bytes()))
		line.WriteByte('\n')
		_, failed := line.WriteTo(w)
		return errors.Join(err, failed)
	}, func() {}
}

// newsOf reports of each status, or of the error in its place, whether it tells
// other things than the one before.
func newsOf() func(report.Status, error) bool {
	first, last, lastErr := true, report.Status{}, ""
	return func(s report.Status, err error) bool {
		why := ""
		if err != nil {
			s, why = report.Status{}, err.Error()
		}
		changed := first || why != lastErr || s.Differs(last)
		first, last, lastErr = false, s, why
		return changed
	}
}
