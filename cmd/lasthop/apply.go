package main

import (
	"errors"
	"fmt"
	"time"

	"lasthop/internal/daemon"
	"lasthop/internal/doctor"
	"lasthop/internal/hint"
	"lasthop/internal/survey"
	"lasthop/internal/writer"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/host"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// applying are the flags of apply.
type applying struct {
	expect   string
	confirm  time.Duration
	noDelete bool
	quiet    bool
}

func (a *app) applyCommand() *cobra.Command {
	var f applying
	c := &cobra.Command{
		Use:  "apply",
		Args: none,
		RunE: func(*cobra.Command, []string) error { return a.apply(f) },
	}
	c.Flags().StringVar(&f.expect, "expect", "",
		"`DIGEST` do nothing unless the plan has this digest, which plan prints")
	c.Flags().DurationVar(&f.confirm, "confirm", 0,
		"`TIME` undo the changes after so long (90s) unless you press Enter")
	c.Flags().BoolVar(&f.noDelete, "no-delete", false, "only add and replace")
	c.Flags().BoolVarP(&f.quiet, "quiet", "q", false,
		"print one line; nothing if there is nothing to do")
	return a.flags.take(c, deciding+"netns", "text", "json")
}

func (a *app) apply(f applying) error {
	scene, err := a.open()
	if err != nil {
		return err
	}
	defer scene.close()
	w, err := scene.writer()
	if errors.Is(err, writer.ErrLocked) && scene.daemon().Runs() {
		return a.askApply(scene, f)
	}
	if err != nil {
		return err
	}
	defer func() { a.ui.closeWriter(w) }() // by the ui of then
	s, err := scene.Look(a.flags.decide)
	if err != nil {
		return err
	}
	if err := s.Fits(f.expect); err != nil {
		return err
	}
	if !f.noDelete {
		if err := scene.loaded(s); err != nil {
			return err
		}
	}
	var v *survey.Vigil
	if f.confirm > 0 && !s.Decision.Diff.Empty() {
		a.ui.stderr = &writer.Hasty{Writer: a.ui.stderr}
		v = a.ui.vigil(s)
		defer v.Close()
		if s, err = scene.Look(a.flags.decide); err != nil { // as it is now
			return err
		}
		if err := s.Fits(f.expect); err != nil {
			return err
		}
	}
	s.AddBackground()
	return a.carryOut(scene, w, s, f, v)
}

// carryOut makes the changes and reports them. With --confirm they are a trial
// from before the first write.
func (a *app) carryOut(scene scene, w *writer.Writer, s *survey.Survey, f applying,
	v *survey.Vigil) error {
	c := writer.Plan(s.Decision, s.Inputs.Policy.Numbers, f.noDelete)
	result := report.Apply{Plan: s.Plan(), Quiet: f.quiet}
	result.Diff = c.Diff
	undo, err := scene.prepareUndo(w, s, c)
	if err != nil {
		return err
	}
	trial := w.Try(f.confirm)
	result.Done, err = trial.Write(c)
	if len(result.Done) > 0 {
		result.Undo = undo
		v.Begin()
	}
	if len(result.Done) > 0 && err == nil {
		var h routing.Host
		if h, err = w.ReadBack(c); err == nil {
			result.Checks, err = s.Verify(h, scene.line)
		}
	}
	result.Writes = scene.kernel.Writes()
	err = trial.End(needsRoot(result.Done, err), writer.Talk{
		Show: func() error { return a.ui.print(result, a.flags.output) },
		Ask: func() {
			fmt.Fprintf(a.ui.stderr, "lasthop: press Enter within %s to keep this, "+
				"else it is taken back\n", f.confirm)
		},
		Answers: a.ui.stdin, Undo: v.Undo()})
	if len(result.Done) == 0 {
		return err
	}
	if f.confirm > 0 && err != nil { // taken back: see what is attached now
		_, readErr := scene.kernel.Read()
		if readErr == nil {
			readErr = scene.lastHop.Attached()
		}
		return errors.Join(err, readErr)
	}
	if f.confirm > 0 {
		fmt.Fprintln(a.ui.stderr, "lasthop: kept")
	}
	if note := scene.lastHop.Note(); note != "" {
		a.ui.warn("%s", note)
	}
	return errors.Join(err, scene.lastHop.Attached(), w.NameTables(s.NamedPaths()))
}

// writer opens the only way to the kernel. Tables get names if they are those
// of this machine's own namespace.
func (s scene) writer() (*writer.Writer, error) {
	o := writer.Options{RunDir: s.runDir, Inode: s.kernel.Inode()}
	if s.line.NetNS == "" {
		o.Names = writer.NamesDir
	}
	return writer.Open(s.Place, o)
}

func (u ui) closeWriter(w *writer.Writer) {
	if err := w.Close(); err != nil {
		u.warn("%v", err)
	}
}

// loadTime is how long a running reload may take: `nginx -s reload` does not
// wait for it.
const loadTime = 5 * time.Second

// loaded refuses a plan that removes something while NGINX has not yet loaded
// what is on disk: NGINX listens on what it has loaded.
func (s scene) loaded(v *survey.Survey) error {
	for end := time.Now().Add(loadTime); ; time.Sleep(50 * time.Millisecond) {
		l, err := s.takes(v)
		if err != nil || len(l.Pending)+len(l.Losing) == 0 {
			return err
		}
		if time.Now().After(end) {
			return l.Refused()
		}
	}
}

// takes returns what NGINX may listen on whose way the plan removes.
func (s scene) takes(v *survey.Survey) (doctor.Loaded, error) {
	return doctor.Takes(v, doctor.Options{Kernel: s.kernel, Line: s.line,
		Status: s.status})
}

// prepareUndo returns the command that goes back to what lasthop owns now:
// clear, or a script that is kept for it.
func (s scene) prepareUndo(w *writer.Writer, v *survey.Survey,
	c writer.Change) (string, error) {
	if c.Diff.Empty() || c.Before.Empty() {
		return s.line.Command("clear"), nil
	}
	if len(c.Before.Filters)+len(c.After.Filters) > 0 {
		// `ip` and `tc` cannot load lasthop's programs
		return s.line.Command("apply") + ", with the settings of before", nil
	}
	path, err := w.KeepUndo(v.Plan(), routing.Compare(c.After, c.Before))
	if err != nil {
		return "", err
	}
	line := "sh " + routing.ShellWord(path) + " undo"
	if netns := host.NamespacePath(s.line.NetNS); netns != "" {
		line = "nsenter --net=" + routing.ShellWord(netns) + " " + line
	}
	return line, nil
}

// askApply lets the daemon do what apply should do, since the daemon is the one
// writer. It refuses what the daemon cannot know.
func (a *app) askApply(s scene, f applying) error {
	switch {
	case f.confirm > 0:
		return hint.New(errors.New("lasthop run is at work in this network namespace: "+
			"--confirm cannot take back what it keeps"), stopFirst)
	case a.flags.decide.Any():
		return refuseWithDaemon("apply with settings of its own")
	}
	result, err := s.daemon().Sync(daemon.Request{Expect: f.expect,
		NoDelete: f.noDelete, Sudoer: writer.Sudoer()})
	if err != nil && len(result.Done) == 0 {
		return err
	}
	result.Quiet = f.quiet
	return errors.Join(err, a.ui.print(result, a.flags.output))
}

const stopFirst = "systemctl stop lasthop (the routes stay), then run it again"

// refuseWithDaemon refuses a command that would work against the daemon.
func refuseWithDaemon(what string) error {
	return hint.New(fmt.Errorf("lasthop run is at work in this network namespace: %s would "+
		"work against it", what), stopFirst)
}

// needsRoot returns one error for all, with its remedy, if the kernel lets this
// user write nothing at all.
func needsRoot(done []routing.Op, err error) error {
	if len(done) > 0 || !errors.Is(err, unix.EPERM) {
		return err
	}
	return hint.New(fmt.Errorf("change routes: %w: nothing is changed", unix.EPERM),
		"run it with sudo, or with CAP_NET_ADMIN")
}
