package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"lasthop/internal/screen"
	"lasthop/report"
)

// watchEvery is how often Watch asks: the daemon encodes each status once, for
// all clients.
const watchEvery = time.Second

// Watch shows the daemon's status in a format (text or json), and again after
// each change, until ctx ends: that is no error. A daemon that ends or does not
// answer is a change, too. The error is that of a write.
func (c Client) Watch(ctx context.Context, w io.Writer, format string, style report.Style) error {
	v := view{style: style}
	show := v.line
	if format != "json" {
		v.screen = screen.Open(w)
		defer v.screen.Close()
		show = v.text
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		s, err := c.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := show(w, v.take(s, err)); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// look asks for the status.
func (c Client) look(ctx context.Context) (report.Status, error) {
	var s report.Status
	err := c.ask(ctx, http.MethodGet, pathStatus, nil, &s)
	return s, err
}

// view is what a Watch shows.
type view struct {
	style  report.Style
	screen *screen.Screen // of the format text

	// Owned by take.
	last   report.Status // the zero value with an error
	why    string        // the error
	since  time.Time     // last or why
	result report.Result
}

// take records a status, or the error in its place, and reports whether it
// differs from the one before.
func (v *view) take(s report.Status, err error) (news bool) {
	why := ""
	if err != nil {
		s, why = report.Status{}, err.Error()
	}
	news = v.result == nil || why != v.why || s.Differs(v.last)
	if v.last, v.why = s, why; news {
		v.since = time.Now()
	}
	v.result = s
	if err != nil {
		a := report.Absence{Since: v.since, State: "no answer", Why: why}
		if errors.Is(err, ErrNone) {
			a.State = "not running"
		}
		v.result = a
	}
	return news
}

// text redraws a terminal each time; elsewhere it writes only changes.
func (v *view) text(_ io.Writer, news bool) error {
	if !news && !v.screen.Terminal() {
		return nil
	}
	var b bytes.Buffer
	err := v.result.Text(&b, v.style)
	return errors.Join(err, v.screen.Show(b.String()))
}

// line writes a change as a document on one line.
func (v *view) line(w io.Writer, news bool) error {
	if !news {
		return nil
	}
	var doc, line bytes.Buffer
	err := errors.Join(v.result.JSON(&doc), json.Compact(&line, doc.Bytes()))
	line.WriteByte('\n')
	_, failed := line.WriteTo(w)
	return errors.Join(err, failed)
}
