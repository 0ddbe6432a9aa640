package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

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
	daemon   bool // asked of the daemon, which would heal an undo
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
	unlock, err := a.lock(k)
	if errors.Is(err, errLocked) && a.daemonRuns(k) {
		return a.askApply(k, f)
	}
	if err != nil {
		return err
	}
	defer unlock()
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
	result := report.Apply{Plan: report.Plan{Head: v.head(), Plan: v.plan, Diff: v.diff,
		Digest: v.plan.Digest(v.diff)}}
	if f.noDelete {
		result.Diff = withoutDeletes(v.diff)
	}
	var interrupted <-chan os.Signal
	if f.confirm > 0 {
		c := make(chan os.Signal, 1)
		// before the first write: from then on nothing may end us
		// without going back
		signal.Notify(c, ending...)
		defer signal.Stop(c)
		interrupted = c
	}
	return a.carryOut(k, v, f, &result, interrupted)
}

// carryOut writes and reports. With --confirm it goes back if anything is
// wrong, and if nobody confirms.
func (a *app) carryOut(k *host.Kernel, v *view, f applying, result *report.Apply,
	interrupted <-chan os.Signal) error {
	err := a.write(k, v, f, result)
	result.Writes = k.Writes()
	if err != nil && len(result.Done) == 0 {
		return err
	}
	err = errors.Join(err, a.ui.print(*result, a.flags.output))
	switch {
	case f.confirm == 0 || len(result.Done) == 0:
		return err
	case err != nil:
		return errors.Join(err, a.goBack(k, v, "that did not work"))
	}
	return a.confirmed(k, v, f.confirm, interrupted)
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

// write carries the diff out, and makes sure that it worked.
func (a *app) write(k *host.Kernel, v *view, f applying, result *report.Apply) error {
	if result.Diff.Empty() {
		return nil
	}
	undo := ""
	if !f.daemon {
		var err error
		if undo, err = a.prepareUndo(v); err != nil {
			return err
		}
	}
	done, err := routing.Execute(result.Diff, k.Do)
	audit("apply", result.Digest, done, err)
	result.Done = done
	if len(done) > 0 {
		result.Undo = undo
	}
	if err != nil {
		return needsRoot(done, err)
	}
	now := &view{policy: v.policy, plan: v.plan}
	if now.host, err = k.Read(); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	left := routing.Compare(routing.Owned(now.host, v.policy.Numbers), v.plan.State)
	if f.noDelete {
		left = withoutDeletes(left)
	}
	if !left.Empty() {
		return hint(fmt.Errorf("the kernel does not hold what was written: %s",
			left.Ops()[0]), "somebody else may be writing too; run apply again")
	}
	if result.Checks, err = now.ask(k); err != nil {
		return err
	}
	return errors.Join(a.asymmetric(result.Checks), a.nameTables(v.settings, v.plan.Paths))
}

// prepareUndo returns the command that goes back to what is ours now: clear, or
// a script that is kept for it.
func (a *app) prepareUndo(v *view) (string, error) {
	if len(v.owned.Routes)+len(v.owned.Rules)+len(v.owned.Groups) == 0 {
		return a.commandLine("clear"), nil
	}
	var script strings.Builder
	back := routing.Compare(v.plan.State, v.owned)
	p := report.Plan{Head: v.head(), Plan: v.plan, Diff: v.diff, Digest: v.plan.Digest(v.diff)}
	if err := report.Script(&script, p, back); err != nil {
		return "", err
	}
	// not in the directory of the daemon's user: root will run it
	dir := a.flags.runDir + "-undo"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("keep the undo script: %w", err)
	}
	path := filepath.Join(dir,
		fmt.Sprintf("undo-%s.sh", strings.TrimPrefix(p.Digest, "sha256:")[:12]))
	if err := os.WriteFile(path, []byte(script.String()), 0o700); err != nil {
		return "", fmt.Errorf("keep the undo script: %w", err)
	}
	if a.flags.netns != "" {
		return "nsenter --net=" + shellWord(a.netnsPath()) + " sh " + shellWord(path) +
			" undo", nil
	}
	return "sh " + shellWord(path) + " undo", nil
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

// needsRoot makes one error, with its remedy, of a kernel's refusal to let us
// write at all.
func needsRoot(done []routing.Op, err error) error {
	if len(done) > 0 || !errors.Is(err, unix.EPERM) {
		return err
	}
	return hint(fmt.Errorf("change routes: %w: nothing is changed", unix.EPERM),
		"run as root, or with CAP_NET_ADMIN")
}
