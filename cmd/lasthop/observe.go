package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"lasthop/internal/hint"
	"lasthop/internal/survey"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/flow"

	"github.com/spf13/cobra"
)

// observing is how long to look by default.
const observing = 30 * time.Second

func (a *app) observeCommand() *cobra.Command {
	window, probe := observing, false
	c := &cobra.Command{
		Use:  "observe",
		Args: none,
		RunE: func(*cobra.Command, []string) error { return observe(a, window, probe) },
	}
	c.Flags().DurationVar(&window, "for", observing, "`TIME` how long to look")
	c.Flags().BoolVar(&probe, "probe", false,
		"send one echo to each router of unknown address, at most 16: its answer "+
			"names the router")
	return a.flags.take(c, deciding+"netns", "text", "json")
}

func observe(a *app, window time.Duration, probe bool) error {
	scene, s, err := lookAtListeners(a)
	if err != nil {
		return err
	}
	defer scene.close()
	seen, err := a.ui.watch(s, window, probe)
	if err != nil {
		return err
	}
	err = a.ui.print(report.Observe{Head: s.Head(), Seen: seen}, a.flags.output)
	return ended(err, !slices.ContainsFunc(seen.Findings, wrong))
}

// wrong reports whether a finding requires an action.
func wrong(f routing.Finding) bool { return f.Severity != routing.Info }

// lookGarbage is how much garbage Go may keep while packets are observed, in
// percent of what is in use. They make little, so collecting it costs little.
const lookGarbage = 20

// witness observes packets for check; nil if it should not.
func (u ui) witness(s *survey.Survey, d time.Duration) (*routing.Seen, error) {
	switch {
	case d == 0:
		return nil, nil
	case s.Place.Offline:
		return nil, hint.New(errors.New("--observe: a captured host has no packets"),
			"run it on the host itself: lasthop check --observe 10s")
	}
	seen, err := u.watch(s, d, false)
	return &seen, err
}

// watch observes packets, and shows its progress on a terminal. An interrupt
// ends the look, not the program.
func (u ui) watch(s *survey.Survey, d time.Duration, probe bool) (routing.Seen, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer debug.SetGCPercent(debug.SetGCPercent(lookGarbage))
	debug.FreeOSMemory() // of what reading the host has left
	line := u.progress()
	seen, err := s.Observe(ctx, d, probe, func(p flow.Progress) bool {
		line(fmt.Sprintf("looking: %.0f of %.0f s, %d packets, %d connections",
			p.Elapsed.Seconds(), d.Seconds(), p.Packets, p.Flows))
		return false
	})
	line("")
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return seen, err
}

// progress returns what replaces the last line of a terminal; elsewhere it does
// nothing.
func (u ui) progress() func(string) {
	f, ok := u.stderr.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return func(string) {}
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func(string) {}
	}
	return func(text string) { fmt.Fprintf(f, "\r\x1b[K%s", text) }
}
