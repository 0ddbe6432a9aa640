package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

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
}

func (a *app) applyCommand() *cobra.Command {
	var f applying
	c := &cobra.Command{
		Use:   "apply",
		Short: "do once what plan says",
		Long: `apply makes the changes that plan prints, reads them back, asks the kernel for the way
of each listener's replies, and prints the command that takes it all back.

It takes nothing away while NGINX has yet to load what is on disk: that waits for the
reload.

While ` + "`lasthop run`" + ` is at work here, it is the one that makes them: apply asks it to.

With --confirm it goes back by itself unless you press Enter in time, and also when
your terminal goes away. Only kill -9 of lasthop itself can prevent that.`,
		Args: none,
		RunE: func(*cobra.Command, []string) error { return a.apply(f) },
	}
	c.Flags().StringVar(&f.expect, "expect", "",
		"do nothing unless the plan has this `DIGEST`, which plan prints")
	c.Flags().DurationVar(&f.confirm, "confirm", 0,
		"go back after this `TIME` (90s) unless confirmed with Enter")
	c.Flags().BoolVar(&f.noDelete, "no-delete", false, "only add and replace")
	return c
}

func (a *app) apply(f applying) error {
	if err := errors.Join(a.flags.formats("text", "json"), a.flags.live("apply")); err != nil {
		return err
	}
	k, err := a.open()
	if err != nil {
		return err
	}
	defer k.Close()
	w, err := a.writer(k, nil)
	if errors.Is(err, writer.ErrLocked) && a.daemonRuns(k) {
		return a.askApply(k, f)
	}
	if err != nil {
		return err
	}
	defer a.close(w)
	v, err := a.look(k)
	if err != nil {
		return err
	}
	if err := v.fit(f.expect); err != nil {
		return err
	}
	if !f.noDelete {
		if err := a.loaded(k, v); err != nil {
			return err
		}
	}
	v.addLive(k)
	return a.carryOut(k, w, v, f)
}

// carryOut makes the changes and reports them. With --confirm they are a trial
// from before the first write.
func (a *app) carryOut(k *host.Kernel, w *writer.Writer, v *view, f applying) error {
	c := v.change("apply", f.noDelete)
	result := v.applied(c)
	undo, err := a.prepareUndo(w, v, c)
	if err != nil {
		return err
	}
	if f.confirm > 0 {
		a.ui.stderr = &hasty{Writer: a.ui.stderr}
	}
	trial := w.Try(f.confirm)
	result.Done, err = trial.Write(c)
	if len(result.Done) > 0 {
		result.Undo = undo
	}
	if len(result.Done) > 0 && err == nil {
		result.Checks, err = a.verify(k, w, v, c)
	}
	result.Writes = k.Writes()
	err = trial.End(needsRoot(result.Done, err), writer.Talk{
		Show: func() error { return a.ui.print(result, a.flags.output) },
		Ask: func() {
			fmt.Fprintf(a.ui.stderr, "lasthop: press Enter within %s to keep this, "+
				"else it is taken back\n", f.confirm)
		},
		Answers: a.ui.stdin})
	if len(result.Done) == 0 || f.confirm > 0 && err != nil {
		return err
	}
	if f.confirm > 0 {
		fmt.Fprintln(a.ui.stderr, "lasthop: kept")
	}
	return errors.Join(err, w.NameTables(v.named()))
}

// writer opens the only way to the kernel. Tables get names if they are those
// of this machine's own namespace.
func (a *app) writer(k *host.Kernel, log *slog.Logger) (*writer.Writer, error) {
	o := writer.Options{RunDir: a.flags.runDir, Inode: k.Inode(), Log: log}
	if a.flags.netns == "" {
		o.Names = writer.NamesDir
	}
	return writer.Open(machine{k}, o)
}

func (a *app) close(w *writer.Writer) {
	if err := w.Close(); err != nil {
		a.ui.warn("%v", err)
	}
}

// machine makes the writes of a diff with the kernel.
type machine struct{ *host.Kernel }

func (m machine) Write(d routing.Diff) ([]routing.Op, error) { return routing.Execute(d, m.Do) }

// change is what carries out the plan, or only what it adds and replaces.
func (v *view) change(command string, addOnly bool) writer.Change {
	c := writer.Change{Command: command, By: writer.Self(), Numbers: v.policy.Numbers,
		Before: v.owned, After: v.plan.State, Diff: v.diff,
		Digest: v.plan.Digest(v.diff), AddOnly: addOnly}
	if addOnly {
		c.Diff = withoutDeletes(v.diff)
	}
	return c
}

// applied is the result of a change before it is made.
func (v *view) applied(c writer.Change) report.Apply {
	return report.Apply{Plan: report.Plan{Head: v.head(), Plan: v.plan, Diff: c.Diff,
		Digest: c.Digest}}
}

// verify reads back what was written, and asks the kernel for the way of each
// listener's replies.
func (a *app) verify(k *host.Kernel, w *writer.Writer, v *view, c writer.Change) (
	[]report.Checked, error) {
	h, err := w.ReadBack(c)
	if err != nil {
		return nil, err
	}
	checks, err := (&view{policy: v.policy, plan: v.plan, host: h}).ask(k)
	if err != nil {
		return nil, err
	}
	return checks, a.asymmetric(checks)
}

// named are the paths whose tables are to have names.
func (v *view) named() []routing.Path {
	if !v.settings.tableNames {
		return nil // they may have been wanted before
	}
	return v.plan.Paths
}

// fit says whether the plan may be carried out: it has listeners, and is the
// one that was approved.
func (v *view) fit(expect string) error {
	if err := v.listening(); err != nil {
		return err
	}
	if digest := v.plan.Digest(v.diff); expect != "" && expect != digest {
		return hint(fmt.Errorf("this is another plan than the one expected: its digest "+
			"is %s: nothing is changed", digest),
			"the host or the configuration has changed since; "+
				"read `lasthop plan` again")
	}
	return nil
}

// loadTime is how long a reload that is under way may take: `nginx -s reload`
// does not wait for it.
const loadTime = 5 * time.Second

// loaded refuses a plan that takes something away while NGINX has yet to load
// what is on disk: it listens on what it has loaded.
func (a *app) loaded(k *host.Kernel, v *view) error {
	for end := time.Now().Add(loadTime); len(v.diff.DelRules) > 0; time.Sleep(
		50 * time.Millisecond) {
		d := doctor{app: a, kernel: k, view: v}
		switch _, _, pending, err := d.loads(); {
		case err != nil:
			return err
		case len(pending) == 0:
			return nil
		case time.Now().After(end):
			f := d.findings[0]
			return hint(fmt.Errorf("%s, and may listen on what this plan takes the "+
				"way of: nothing is changed", f.Message),
				f.Hint+", and then again; or --no-delete, to add only")
		}
	}
	return nil
}

// withoutDeletes keeps what adds and replaces.
func withoutDeletes(d routing.Diff) routing.Diff {
	return routing.Diff{SetRoutes: d.SetRoutes, SetGroups: d.SetGroups, AddRules: d.AddRules}
}

// prepareUndo returns the command that goes back to what lasthop owns now:
// clear, or a script that is kept for it.
func (a *app) prepareUndo(w *writer.Writer, v *view, c writer.Change) (string, error) {
	if c.Diff.Empty() || v.owned.String() == "" {
		return a.commandLine("clear"), nil
	}
	p := v.applied(c).Plan
	p.Diff = v.diff
	path, err := w.KeepUndo(p, routing.Compare(v.plan.State, v.owned))
	if err != nil {
		return "", err
	}
	line := "sh " + shellWord(path) + " undo"
	if a.flags.netns != "" {
		line = "nsenter --net=" + shellWord(a.netnsPath()) + " " + line
	}
	return line, nil
}

// commandLine is a command of ours with the flags that say where to work.
func (a *app) commandLine(command string) string {
	for _, netns := range append(a.flags.captured.Flags["netns"], a.flags.netns) {
		if netns != "" {
			return "lasthop " + command + " --netns " + shellWord(netns)
		}
	}
	return "lasthop " + command
}

// applyLine is the command that carries out just the plan at hand: the same
// flags, and its digest.
func (a *app) applyLine(digest string) string { return a.likewise("apply") + " --expect " + digest }

// likewise is another command of ours with the flags of this one that decide.
func (a *app) likewise(command string) string {
	line := a.commandLine(command)
	for _, f := range a.flags.decisions() {
		// that the host of --host was looked at with
		captured := a.flags.captured.Flags[f.name]
		if replaces := f.name == "nginx-conf" || f.name == "config"; !replaces ||
			len(f.values) == 0 {
			f.values = appendNew(captured, f.values)
		}
		for _, v := range f.values {
			line += " --" + f.name + " " + shellWord(v)
		}
	}
	return line
}

// explainLine is the command that shows why the replies of a question leave as
// they do.
func (a *app) explainLine(q routing.Query) string {
	command := fmt.Sprintf("explain %s --from %s", q.Src, q.Dst)
	if a.flags.host != "" {
		return "lasthop " + command + " --host " + shellWord(a.flags.host)
	}
	return a.likewise(command)
}

// shellWord quotes what a shell would read otherwise.
func shellWord(s string) string {
	if s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune("._:/-=,@", r))
	}) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// needsRoot makes one error, with its remedy, if the kernel lets this user write
// nothing at all.
func needsRoot(done []routing.Op, err error) error {
	if len(done) > 0 || !errors.Is(err, unix.EPERM) {
		return err
	}
	return hint(fmt.Errorf("change routes: %w: nothing is changed", unix.EPERM),
		"run as root, or with CAP_NET_ADMIN")
}
