package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"lasthop/internal/settings"
	"lasthop/routing"
	"lasthop/routing/host"
)

// dying is the daemon's first sync in a process of its own, which kills itself
// at a write: argv is NETNS CONF RUNDIR WHEN N, where WHEN is before, after or
// never.
func dying() {
	o := Options{NetNS: os.Args[1], RunDir: os.Args[3], Log: os.Stderr,
		Flags: settings.Flags{Confs: []string{os.Args[2]}}}
	if err := dieAt(o, os.Stdout, os.Args[4], os.Args[5]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func dieAt(o Options, stdout io.Writer, when, write string) (err error) {
	if o.Kernel, err = host.Open(o.NetNS); err != nil {
		return err
	}
	n := 0
	if _, err := fmt.Sscan(write, &n); err != nil {
		return err
	}
	defer o.Kernel.Close()
	o.Kernel.Fault = fatal(when, n)
	d, err := open(o)
	if err != nil {
		return err
	}
	defer d.close()
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan error)
	go func() { watched <- d.watcher.Run(ctx) }()
	d.fleet.find()
	for _, i := range d.fleet.instances { // the machine is busy
		if i.reading != nil {
			<-i.reading.done
			i.reading.ripe = true
			d.fleet.find()
		}
	}
	d.sync()
	fmt.Fprintln(stdout, o.Kernel.Writes())
	cancel()
	return <-watched
}

// fatal ends the process before the nth write, or before the first request that
// follows it.
func fatal(when string, n int) func(int) error {
	writes := 0
	return func(kind int) error {
		if when == "after" && writes == n {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		if slices.Contains([]int{unix.RTM_NEWROUTE, unix.RTM_DELROUTE, unix.RTM_NEWRULE,
			unix.RTM_DELRULE, unix.RTM_SETLINK}, kind) {
			writes++
		}
		if when == "before" && writes == n {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	}
}

// die runs dying and returns what it printed, and whether it was killed.
func (s *server) die(conf, when string, n int) (string, bool) {
	s.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	c := exec.Command(exe)
	c.Args = []string{"lasthop-dying", s.Path, conf, s.File("run"), when, fmt.Sprint(n)}
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err = c.Run()
	if status, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() &&
		status.Signal() == syscall.SIGKILL {
		return "", true
	}
	if err != nil {
		s.t.Fatalf("lasthop-dying: %v\n%s", err, stderr.String())
	}
	return strings.TrimSpace(stdout.String()), false
}

// TestRunKilled: a process that dies before or after any write of a change
// leaves nothing that the next start does not put right, and no rule without
// its table in between.
func TestRunKilled(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, last := range []int{17, 33, 49, 66, 81, 130, 161, 200} {
		s.Lines(fmt.Sprintf("addr add 10.0.1.%[1]d/24 dev eth1\n"+
			"addr add 10.0.2.%[1]d/24 dev eth2\n"+
			"-6 addr add 2001:db8:1::%[1]d/64 dev eth1 nodad", last))
	}
	one, two := s.confs()
	s.die(one, "never", 0)
	first, foreign := s.owned(), s.foreign()
	writes, _ := s.die(two, "never", 0)
	second := s.owned()
	n := 0
	if _, err := fmt.Sscan(writes, &n); err != nil || n < 40 {
		t.Fatalf("a change of %d writes, want at least 40", n)
	}
	for _, when := range []string{"before", "after"} {
		for i := 1; i <= n; i++ {
			s.converge(one)
			if d := cmp.Diff(first, s.owned()); d != "" {
				t.Fatalf("the way back after death %s write %d: -want +got\n%s",
					when, i-1, d)
			}
			if _, killed := s.die(two, when, i); !killed {
				t.Fatalf("it did not die %s write %d of %d", when, i, n)
			}
			s.wantTables(fmt.Sprintf("death %s write %d", when, i))
			s.converge(two)
			if d := cmp.Diff(second, s.owned()); d != "" {
				t.Errorf("death %s write %d: the next start does not "+
					"converge: -want +got\n%s", when, i, d)
			}
		}
	}
	t.Logf("%d deaths in a change of %d writes", 2*n, n)
	if d := cmp.Diff(foreign, s.foreign()); d != "" {
		t.Errorf("foreign objects have changed: -before +after\n%s", d)
	}
}

// confs are two configurations with many differences.
func (s *server) confs() (one, two string) {
	s.t.Helper()
	write := func(name, listens string) string {
		s.Conf(listens)
		if err := os.Rename(s.File("nginx.conf"), s.File(name)); err != nil {
			s.t.Fatal(err)
		}
		return s.File(name)
	}
	listens := func(format string, last ...int) (out string) {
		for _, n := range last {
			out += fmt.Sprintf("listen "+format+":80; ", n)
		}
		return out
	}
	one = write("one.conf",
		listens("10.0.1.%d", 17, 49, 81, 161)+listens("[2001:db8:1::%d]", 17, 49, 81))
	two = write("two.conf", listens("10.0.1.%d", 33, 66, 130, 200)+listens("10.0.2.%d", 17, 49,
		81, 100, 130, 161)+listens("[2001:db8:1::%d]", 33, 66, 130, 200))
	return one, two
}

// converge is the first sync of a daemon that starts, in this process.
func (s *server) converge(conf string) {
	s.t.Helper()
	o := s.options()
	o.Flags.Confs = []string{conf}
	if err := dieAt(o, s.log, "never", "0"); err != nil {
		s.t.Fatal(err)
	}
}

// wantTables wants each rule of lasthop to find a default route in a table of
// lasthop.
func (s *server) wantTables(what string) {
	s.t.Helper()
	o := routing.Owned(s.host(), routing.DefaultNumbers)
	for _, r := range o.Rules {
		has := slices.ContainsFunc(o.Routes, func(x routing.Route) bool {
			return x.Table == r.Table && x.Family() == r.Family && x.IsDefault()
		})
		if routing.DefaultNumbers.OwnsTable(r.Table) && !has {
			s.t.Errorf("%s: a rule without its table: %s", what, r)
		}
	}
}
