package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"lasthop/internal/journal"
	"lasthop/internal/nstest"
	"lasthop/report"
	"lasthop/routing"
)

// This file is the table of what may be wrong around the daemon while it runs.
// Failures of one kind of request to the kernel are in fault_test.go, kills are
// in crash_test.go, and all that other users can do together is in
// siege_test.go.

// adverse is a server around which something is wrong.
type adverse struct {
	*server
	status func() report.Status
	pid    int    // of the daemon, where it is a process of its own
	names  string // listens with host names, which are 10.0.1.101
	wrong  atomic.Bool
	end    func() // of what is wrong
}

// adversities are what may be wrong.
var adversities = []struct {
	name string
	says string // the status says it meanwhile; "": it says nothing
	// the daemon is a process of its own, started by way of another command
	by []string
	// causes the fault, before the daemon starts or afterwards
	prepare func(*adverse, *Options)
	begin   func(*adverse) (end func())
	// it cannot be asked before the end, and cannot follow a load
	late bool
}{
	{name: "the system's log takes nothing", says: "audit lines are lost", prepare: (*adverse).stuckSyslog},
	{name: "the journal takes nothing", says: "audit lines are lost", prepare: (*adverse).stuckJournal},
	{name: "the resolver does not answer", says: "does not resolve", prepare: (*adverse).deafResolver},
	{name: "stdout is stalled", prepare: func(a *adverse, o *Options) { o.Log = stalled{a} }},
	{name: "clients do not read", begin: (*adverse).clients},
	{name: "no inotify instance is left", says: "inotify", by: asUser(990), prepare: (*adverse).noInotify},
	{name: "users take the connections of a daemon with few descriptors", by: []string{"prlimit", "--nofile=64:64"}, begin: (*adverse).intruders},
	{name: "no descriptor is left", says: "too many open files", by: []string{"env"}, begin: (*adverse).noDescriptor, late: true},
	{name: "the run directory is full", says: "no space left", begin: (*adverse).fullRunDir},
	{name: "processes of another user", begin: (*adverse).intruders},
	{name: "nginx.conf is touched all the time", begin: (*adverse).touched},
}

// asUser runs a command as a user with the service's capabilities.
func asUser(uid int) []string {
	const have = "-all,+net_admin,+dac_read_search,+sys_ptrace"
	id := fmt.Sprint(uid)
	return []string{"setpriv", "--reuid", id, "--regid", id, "--clear-groups",
		"--bounding-set", have, "--inh-caps", have, "--ambient-caps", have}
}

// TestRunAdversity: whatever is wrong around it, the daemon puts back what
// another program deletes, follows a load, and reports what is wrong, if
// anything; and it recovers by itself when the fault is over.
func TestRunAdversity(t *testing.T) {
	for _, tt := range adversities {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := &adverse{server: newServer(t)}
			a.wrong.Store(true)
			a.end = func() { a.wrong.Store(false) }
			prepare := func(o *Options) {
				if tt.prepare != nil {
					tt.prepare(a, o)
				}
			}
			a.StartNginxKnowing("10.0.1.101 web.test\n")
			if tt.by == nil {
				a.start(prepare)
				a.status = a.server.status
			} else {
				prepare(nil)
				p := a.launch(true, tt.by, "-c", a.File("nginx.conf"), "--config",
					"")
				a.status, a.pid = p.status, p.pid
			}
			a.Explain = a.log.String
			if tt.begin != nil {
				a.end = tt.begin(a)
			}
			a.endure(tt.says, tt.late)
		})
	}
}

// endure checks what the daemon has to do meanwhile and afterwards.
func (a *adverse) endure(says string, late bool) {
	a.t.Helper()
	want := a.owned()
	follows := func() bool { return has(a.owned(), "from 10.0.2.") }
	a.deleteOwned()
	a.Until("all to be back", func() bool { return cmp.Diff(want, a.owned()) == "" })
	a.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80; " + a.names)
	a.Reload()
	if !late {
		a.Until("the new listener's way", follows)
	}
	a.Until("it to be said: "+says, func() bool {
		if late { // it cannot be asked
			return strings.Contains(a.log.String(), says)
		}
		st := a.status()
		return says == "" || has(st.Wrong, says) || slices.ContainsFunc(st.Plan.Findings,
			func(f routing.Finding) bool { return strings.Contains(f.Message, says) })
	})
	a.end()
	a.Until("the new listener's way afterwards", follows)
	a.Until("all to be good", a.good)
	a.Conf("listen 10.0.1.100:80; " + a.names)
	a.Reload()
	a.Until("the way to go", func() bool {
		return !follows() && (cmp.Diff(want, a.owned()) == "" || a.names != "")
	})
}

// good reports whether nothing is wrong.
func (a *adverse) good() bool {
	st := a.status()
	wrong := slices.DeleteFunc(slices.Clone(st.Wrong), func(w string) bool {
		// other users may have no access to the machine's own log
		return a.pid != 0 && strings.HasPrefix(w, "audit lines are lost")
	})
	return st.Counts.Syncs > 0 && st.Diff.Empty() && len(wrong) == 0 &&
		!slices.ContainsFunc(st.Plan.Findings, func(f routing.Finding) bool {
			return f.Code == "not-loaded" || f.Code == "config-broken"
		})
}

// fullLog is a log daemon's socket that takes no more.
func (s *server) fullLog() *net.UnixConn {
	s.t.Helper()
	full := s.logOf()
	c, err := net.Dial("unixgram", s.File("log"))
	for n := 0; err == nil && n < 1000; n++ {
		_ = c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		_, err = c.Write([]byte("x"))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.Fatalf("the socket is not full: %v", err)
	}
	return full
}

// stuckSyslog gives the daemon a log daemon's socket that is full.
func (a *adverse) stuckSyslog(o *Options) {
	o.Syslog = []string{a.File("log")}
	a.stuckLog()
}

// stuckJournal gives the daemon the socket of a journal that is full.
func (a *adverse) stuckJournal(o *Options) {
	o.Journal = journal.Place{Stream: true, Socket: a.File("log")}
	a.stuckLog()
}

// stuckLog fills a log daemon's socket until the end.
func (a *adverse) stuckLog() {
	full := a.fullLog()
	a.end = func() {
		go func() { _, _ = io.Copy(io.Discard, full) }()
		// the daemon learns from the next line that the log takes lines
		// again
		a.Lines("addr add 10.0.1.97/24 dev eth1")
		a.Until("a change", func() bool { return a.status().InSync })
		a.Lines("addr del 10.0.1.97/24 dev eth1")
	}
}

// deafResolver gives NGINX a name for which the daemon gets no answer, and then
// errors.
func (a *adverse) deafResolver(o *Options) {
	a.names = "listen web.test:8080;"
	var asked atomic.Int32
	o.Lookup = func(ctx context.Context, _ string) ([]netip.Addr, error) {
		switch n := asked.Add(1); {
		case !a.wrong.Load():
			return []netip.Addr{netip.MustParseAddr("10.0.1.101")}, nil
		case n == 1:
			<-ctx.Done()
		}
		return nil, errors.New("server misbehaving")
	}
	a.end = func() {
		a.Until("two questions", func() bool { return asked.Load() >= 2 })
		a.wrong.Store(false)
	}
}

// stalled is a stdout that takes no line while something is wrong.
type stalled struct{ a *adverse }

func (s stalled) Write(p []byte) (int, error) {
	for s.a.wrong.Load() {
		time.Sleep(time.Millisecond)
	}
	return s.a.log.Write(p)
}

// clients opens connections of root that ask and do not read.
func (a *adverse) clients() (end func()) {
	var held []net.Conn
	for n := range 2 * mostConnections {
		c, err := net.Dial("unix", a.socket().Socket)
		if err != nil {
			a.t.Fatal(err)
		}
		held = append(held, c)
		_, _ = fmt.Fprintf(c, "GET /status HTTP/1.1\r\nHost: x\r\nAccept: %s\r\n\r\n",
			[]string{"*/*", gobType}[n%2])
	}
	return func() {
		for _, c := range held {
			c.Close()
		}
	}
}

// noInotify takes all instances of the daemon's user.
func (a *adverse) noInotify(*Options) {
	nstest.Nobody(a.t)
	err := errors.Join(os.Mkdir(a.File("run"), 0o755), os.Chown(a.File("run"), 990, 990))
	if err != nil {
		a.t.Fatal(err)
	}
	pid, end := a.intrude(intruder{UID: 990, Kinds: []string{"inotify"}})
	most := 0
	data, _ := os.ReadFile("/proc/sys/fs/inotify/max_user_instances")
	_, _ = fmt.Sscan(string(data), &most)
	a.Until("the instances to be taken", func() bool {
		files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		return len(files) > most
	})
	a.end = func() { end() }
}

// intruders are two users with fake masters and held connections.
func (a *adverse) intruders() (end func()) {
	nstest.Nobody(a.t)
	var ends []func() ([]int, string)
	for n, uid := range []uint32{65534, 65533} {
		dir := a.File(fmt.Sprint("theirs", n))
		err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, int(uid), int(uid)))
		if err != nil {
			a.t.Fatal(err)
		}
		_, end := a.intrude(intruder{UID: uid, Dir: dir, Conf: a.File("nginx.conf"),
			Socket: a.socket().Socket,
			Kinds:  []string{"masters", "holding", "processes"}})
		ends = append(ends, end)
	}
	time.Sleep(300 * time.Millisecond) // they are all there
	open, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", a.pid))
	if a.pid != 0 && (len(open) == 0 || len(open) > 48) {
		a.t.Errorf("%d descriptors are open, want 48 at most of 64", len(open))
	}
	return func() {
		for _, end := range ends {
			if did, said := end(); slices.Contains(did, 0) || len(did) == 0 {
				a.t.Errorf("too little was done to prove anything: %v, %s", did,
					said)
			}
		}
	}
}

// noDescriptor takes the daemon's right to open files.
func (a *adverse) noDescriptor() (end func()) {
	var was unix.Rlimit
	if err := unix.Prlimit(a.pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		a.t.Fatal(err)
	}
	set := func(n uint64) {
		if err := unix.Prlimit(a.pid, unix.RLIMIT_NOFILE,
			&unix.Rlimit{Cur: n, Max: was.Max}, nil); err != nil {
			a.t.Fatal(err)
		}
	}
	set(3)
	return func() { set(was.Cur) }
}

func (a *adverse) fullRunDir() (end func()) { return fill(a.t.(*testing.T), a.File("run")) }

// touched writes nginx.conf again and again.
func (a *adverse) touched() (end func()) {
	ctx, cancel := context.WithCancel(a.t.Context())
	var task sync.WaitGroup
	task.Go(func() {
		for ; ctx.Err() == nil; pause(ctx, 2*time.Millisecond) {
			now := time.Now()
			_ = os.Chtimes(a.File("nginx.conf"), now, now)
		}
	})
	return func() {
		cancel()
		task.Wait()
		a.Reload() // NGINX may not have read what was touched after its fork
	}
}
