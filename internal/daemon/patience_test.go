package daemon

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lasthop/internal/hint"
	"lasthop/internal/journal"
	"lasthop/internal/nstest"
	"lasthop/nginxconf"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/watcher"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// logOf is a log daemon's socket. Its lines can be read.
func (s *server) logOf() *net.UnixConn {
	s.t.Helper()
	c, err := net.ListenUnixgram("unixgram",
		&net.UnixAddr{Name: s.File("log"), Net: "unixgram"})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

func (s *server) socket() Client { return Client{SocketPath(s.File("run"), s.kernel.Inode())} }

// TestRunDeafSyslog: a log daemon that reads nothing. Heals go on, the status
// reports this fault and no other, and the end is not delayed.
func TestRunDeafSyslog(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.fullLog()
	s.start(func(o *Options) { o.Syslog = []string{s.File("log")} })
	want := s.owned()
	s.Lines("addr add 10.0.1.77/24 dev eth1") // so that the status is published after the loss
	lost := "audit lines are lost: the system log does not accept them"
	s.Until("the loss in the status", func() bool {
		return slices.Contains(s.status().Wrong, lost)
	})
	s.deleteOwned()
	s.Until("all to be back", func() bool { return cmp.Diff(want, s.owned()) == "" })
	st, err := s.socket().Status()
	if err != nil || st.InSync || !st.Diff.Empty() || !slices.Equal(st.Wrong, []string{lost}) {
		t.Errorf("in sync %t, wrong %q, lacks %v; %v", st.InSync, st.Wrong,
			st.Diff.Ops(), err)
	}
	if n := strings.Count(s.log.String(), "level=ERROR msg=\""+lost); n != 1 {
		t.Errorf("%d lines say it, want one:\n%s", n, s.log)
	}
	start := time.Now()
	if err := s.end(); err != nil || time.Since(start) > 3*time.Second {
		t.Errorf("the end took %v: %v", time.Since(start), err)
	}
	c.Close()
}

// TestRunAudit: the system's log names the user that asked for each change, and
// the daemon for its own.
func TestRunAudit(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.logOf()
	s.start(func(o *Options) { o.Syslog = []string{s.File("log")} })
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:443;")
	s.d.calls <- func() { // before the loop gets the event of the file
		if a, err := s.d.requested(request{by: "ann"}); err != nil || len(a.Done) == 0 {
			t.Errorf("%d writes, %v", len(a.Done), err)
		}
	}
	s.quiet()
	var got []string
	buf := make([]byte, 4096)
	for {
		if err := c.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, line, ok := strings.Cut(string(buf[:n]), "]: "); ok &&
			strings.Contains(line, "digest") {
			who, _, _ := strings.Cut(line, ":")
			got = append(got, who)
		}
	}
	if d := cmp.Diff([]string{"run (start) by root", "apply by ann"}, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestRunAppliedThenLoaded: the daemon applies a configuration, and NGINX loads
// it later. The load finds everything done, the names of tables have stayed,
// and only loads count as loads.
func TestRunAppliedThenLoaded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.StartNginx()
	names := func() string {
		data, _ := os.ReadFile(filepath.Join(s.File("names"), "lasthop.conf"))
		return string(data)
	}
	yaml := s.File("lasthop.yaml")
	if err := os.WriteFile(yaml, []byte("table_names: true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.start(func(o *Options) { o.Names, o.Flags.File = s.File("names"), yaml })
	if n := names(); !strings.Contains(n, "lasthop-eth1") {
		t.Fatalf("names of tables: %q", n)
	}
	inode := func() (st unix.Stat_t) {
		_ = unix.Stat(filepath.Join(s.File("names"), "lasthop.conf"), &st)
		return st
	}
	before := s.quiet()
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80;")
	s.quiet()
	a, err := s.socket().Sync(Request{})
	if err != nil || len(a.Done) != 4 {
		t.Fatalf("%d writes, %v", len(a.Done), err)
	}
	if n := names(); !strings.Contains(n, "lasthop-eth1") ||
		!strings.Contains(n, "lasthop-eth2") {
		t.Errorf("names of tables after apply: %q", n)
	}
	applied, file := s.quiet(), inode()
	if applied.Counts.Reloads != before.Counts.Reloads || applied.Masters[0].Generation != 1 ||
		!applied.Masters[0].Loaded.Equal(before.Masters[0].Loaded) {
		t.Errorf("apply counts as a load: %+v", applied.Masters)
	}
	s.log.Take()
	s.Reload()
	s.Until("the load", func() bool {
		return s.status().Counts.Reloads == before.Counts.Reloads+1
	})
	loaded := s.quiet()
	if n := loaded.Counts.Changes - applied.Counts.Changes; n != 0 {
		t.Errorf("the load made %d writes", n)
	}
	if log := s.log.Take(); strings.Contains(log, "restored") ||
		loaded.Masters[0].Generation != 2 {
		t.Errorf("generation %d, and the log says:\n%s", loaded.Masters[0].Generation, log)
	}
	if inode() != file {
		t.Error("the file with the names of tables was written again")
	}
}

// TestRunPrepared: a load is carried out from the prepared decision if and only
// if that holds for what is there at the load.
func TestRunPrepared(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.StartNginx()
	s.start()
	loads := make(chan load, 10)
	s.loop(func() { s.d.board.loads = func(l load) { loads <- l } })
	listens := []string{"listen 10.0.1.100:80;", "listen 10.0.1.100:80; listen 10.0.2.100:80;"}
	for n, tt := range []struct {
		what string
		do   func() // after the edit
		want bool
	}{
		{"an edit", func() {}, true},
		{"an edit, and a change of the host", func() { s.IP("route replace default via 10.0.2.3 dev eth2 metric 200") }, true},
		{"an edit, and another address", func() { s.IP("addr add 10.0.2.77/24 dev eth2") }, true},
		{"an edit, and an event that has not been looked at", func() {
			s.loop(func() { s.d.reconciler.events++ })
		}, false},
		{"no edit", func() {
			if err := os.Chtimes(s.File("nginx.conf"), time.Now(),
				time.Now()); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		if tt.what != "no edit" {
			s.Conf(listens[(n+1)%2])
		}
		s.quiet()
		tt.do()
		s.quiet()
		s.Reload()
		if l := <-loads; l.ready != tt.want {
			t.Errorf("%s: prepared %t, want %t", tt.what, l.ready, tt.want)
		}
		s.quiet()
		s.wantFresh(tt.what)
	}
}

// TestRunNames: a name server that does not answer delays nothing. Its late
// answer counts, and nothing is removed before.
func TestRunNames(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80;")
	s.start()
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	answer := make(chan netip.Addr)
	s.Conf("listen 10.0.1.100:80; listen web.test:80;")
	start := time.Now()
	s.start(func(o *Options) {
		o.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			select {
			case a := <-answer:
				return []netip.Addr{a}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	})
	if s.quiet(); !has(s.owned(), "from 10.0.2.") || time.Since(start) > lookupTime {
		t.Errorf("after %v: %q", time.Since(start), s.owned())
	}
	answer <- netip.MustParseAddr("10.0.2.100")
	is := func(addr string) func() bool {
		return func() bool {
			return slices.ContainsFunc(s.status().Plan.Outcomes,
				func(o routing.Outcome) bool { return o.Addr.String() == addr })
		}
	}
	s.Until("the name's address", is("10.0.2.100"))
	if s.quiet(); !has(s.owned(), "from 10.0.2.") {
		t.Errorf("known, and gone: %q", s.owned())
	}
	s.askAgain()
	answer <- netip.MustParseAddr("10.0.1.101")
	s.Until("another address", is("10.0.1.101"))
	s.Until("the old one to go", func() bool {
		return !is("10.0.2.100")() && !has(s.owned(), "from 10.0.2.")
	})
}

// TestRunNamesDrain: what is left of a listener when host names are looked up
// goes then, with its way.
func TestRunNamesDrain(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.Conf("listen 10.0.1.100:80;")
	s.start(func(*Options) {})
	s.loop(func() {
		i := s.d.fleet.instances[0]
		i.leaving = append(i.leaving, leaving{listener: &nginxconf.Listen{
			Addr: netip.MustParseAddr("10.0.2.100"), First: 80, Last: 80,
			Transport: "tcp"}})
		s.d.sync()
	})
	if !has(s.owned(), "from 10.0.2.") {
		t.Fatalf("it has no way: %q", s.owned())
	}
	s.loop(func() { s.d.namesDue(time.Now()) })
	if has(s.owned(), "from 10.0.2.") {
		t.Errorf("its way stays: %q", s.owned())
	}
}

// askAgain makes the daemon ask for all names, as after an edit.
func (s *server) askAgain() {
	s.t.Helper()
	s.loop(func() {
		for n, st := range s.d.fleet.names.known {
			st.asked = time.Time{}
			s.d.fleet.names.known[n] = st
		}
		s.d.fleet.namesChanged(time.Now())
	})
}

// TestRunManyNames: no more than lookupMost names are asked for at a time; the
// answers for some do not wait for the other ones, both families of one count,
// and a name server that fails changes nothing.
func TestRunManyNames(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	listens := ""
	for n := range 100 {
		listens += fmt.Sprintf("listen h%d.test:%d; ", n, 1000+n)
	}
	s.Conf("listen 10.0.1.100:80; " + listens)
	dns := nameServer{release: make(chan struct{})}
	s.start(func(o *Options) { o.Lookup = dns.answer })
	outcomes := func(addr string) (n int) {
		for _, o := range s.status().Plan.Outcomes {
			if o.Addr.String() == addr {
				n++
			}
		}
		return n
	}
	s.Until("the names that are answered", func() bool { return outcomes("10.0.1.101") == 99 })
	close(dns.release)
	s.Until("the last name", func() bool {
		return outcomes("10.0.2.100") == 1 && outcomes("2001:db8:2::100") == 1
	})
	if n := dns.most.Load(); n < 2 || n > lookupMost {
		t.Errorf("%d names were asked for at a time, want 2 to %d", n, lookupMost)
	}
	before := s.quiet()
	dns.failing.Store(true)
	s.askAgain()
	s.Until("the failures", func() (heard bool) {
		s.loop(func() { heard = s.d.fleet.names.asking == 0 })
		return heard
	})
	if after := s.quiet(); after.Counts.Changes != before.Counts.Changes ||
		outcomes("10.0.2.100") != 1 {
		t.Errorf("a name server that fails led to %d writes",
			after.Counts.Changes-before.Counts.Changes)
	}
	s.loop(func() {
		if a := s.d.fleet.names.known["h13.test"].addrs; len(a) != 2 {
			t.Errorf("a name server that fails has forgotten addresses: %v are left", a)
		}
	})
	s.Conf("listen 10.0.1.100:80; listen h1.test:80;")
	s.Until("the other names to be dropped", func() (gone bool) {
		s.loop(func() {
			s.d.fleet.namesChanged(time.Now())
			gone = len(s.d.fleet.names.known) == 1
		})
		return gone
	})
}

// nameServer knows h*.test. It answers for h13.test on command.
type nameServer struct {
	now, most atomic.Int32 // questions at a time
	failing   atomic.Bool
	release   chan struct{}
}

func (d *nameServer) answer(ctx context.Context, host string) (out []netip.Addr, err error) {
	if n := d.now.Add(1); n > d.most.Load() {
		d.most.Store(n)
	}
	defer d.now.Add(-1)
	time.Sleep(time.Millisecond)
	switch {
	case d.failing.Load():
		return nil, errors.New("server misbehaving")
	case host == "h13.test":
		select {
		case <-d.release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return []netip.Addr{netip.MustParseAddr("10.0.2.100"),
			netip.MustParseAddr("2001:db8:2::100")}, nil
	}
	return []netip.Addr{netip.MustParseAddr("10.0.1.101")}, nil
}

// hanging is the path of a directory whose file system never answers: a FUSE
// without a server, in a mount namespace of its own.
func hanging(t *testing.T) string {
	t.Helper()
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { fuse.Close() }) // then all hanging requests fail
	c := exec.Command("unshare", "--mount", "sh", "-c", "mount -i -t fuse -o "+
		"fd=3,rootmode=40000,user_id=0,group_id=0 hanging /mnt && "+
		"echo mounted && exec sleep 300 3<&-")
	c.ExtraFiles = []*os.File{fuse}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); fuse.Close(); _ = c.Wait() })
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "mounted\n" {
		t.Skip("a FUSE cannot be mounted here")
	}
	return fmt.Sprintf("/proc/%d/root/mnt", c.Process.Pid)
}

// TestRunHangingDisk: a file system that does not answer delays nothing: heals
// and requests go on, the status reports it, and installed objects stay. When
// the configuration is fixed, the daemon follows it.
func TestRunHangingDisk(t *testing.T) {
	t.Parallel()
	dir := hanging(t)
	s := newServer(t)
	s.StartNginx()
	s.start()
	want := s.owned()
	s.Replace(s.Head() + "events {} http { server { listen 10.0.2.100:80; }\ninclude " +
		dir + "/*.conf; }")
	broken := func() bool {
		return slices.ContainsFunc(s.status().Plan.Findings, func(f routing.Finding) bool {
			return f.Code == "config-broken" &&
				strings.Contains(f.Message, "takes longer") &&
				strings.Contains(f.Message, s.File("nginx.conf:"))
		})
	}
	s.Until("the reading to begin", func() (reading bool) {
		s.loop(func() { reading = s.d.fleet.instances[0].reading != nil })
		return reading
	})
	for range 5 {
		start := time.Now()
		s.deleteOwned()
		s.Until("all to be back", func() bool { return cmp.Diff(want, s.owned()) == "" })
		if d := time.Since(start); d > nstest.Patience(2*time.Second) {
			t.Errorf("it took %v", d)
		}
		s.d.pardon(t)
	}
	if broken() {
		t.Error("the reading was over before: this shows nothing")
	}
	reloaded := make(chan error, 1)
	go func() { reloaded <- s.socket().Reload("") }()
	_, err := s.socket().Sync(Request{})
	if err == nil || !strings.Contains(err.Error(), "takes longer") {
		t.Errorf("apply meanwhile: %v", err)
	}
	if err := <-reloaded; err == nil || !strings.Contains(err.Error(), "takes longer") {
		t.Errorf("reload meanwhile: %v", err)
	}
	s.Until("the finding", broken)
	if d := cmp.Diff(want, s.owned()); d != "" {
		t.Errorf("-before +after\n%s", d)
	}
	s.Conf("listen 10.0.1.100:80; listen 10.0.2.100:80;")
	s.Reload()
	s.Until("the new listener", func() bool { return has(s.owned(), "from 10.0.2.") })
	start := time.Now()
	if err := s.end(); err != nil || time.Since(start) > nstest.Patience(3*time.Second) {
		t.Errorf("the end took %v: %v", time.Since(start), err)
	}
}

// TestRunStuck: the end does not wait for a task that is stuck.
func TestRunStuck(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	stuck := make(chan error)
	defer close(stuck)
	cancel()
	start := time.Now()
	if err := waitFor(ctx, func() error { return <-stuck }); err == nil ||
		time.Since(start) > endTime+time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	if err := waitFor(ctx, func() error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestTroubles: each trouble is logged once, is in the status, and its end is
// logged once.
func TestTroubles(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	s.quiet()
	s.log.Take()
	full := fmt.Errorf("watch /etc/nginx: %w", unix.ENOSPC) // inotify is exhausted
	tell := func(err error) {
		s.loop(func() {
			s.d.nginxEvent(watcher.Event{Kind: watcher.Trouble, About: "files",
				At: time.Now(), Err: err})
		})
	}
	tell(full)
	tell(full)
	if st := s.status(); st.InSync || !slices.Equal(st.Wrong, []string{full.Error()}) {
		t.Errorf("in sync %t, wrong %q", st.InSync, st.Wrong)
	}
	tell(nil)
	tell(nil)
	if st := s.status(); !st.InSync || len(st.Wrong) > 0 {
		t.Errorf("in sync %t, wrong %q", st.InSync, st.Wrong)
	}
	var got []string
	for line := range strings.Lines(s.log.Take()) {
		_, line, _ = strings.Cut(strings.TrimSpace(line), " ")
		got = append(got, line)
	}
	want := []string{`level=ERROR msg="watch /etc/nginx: no space left on device"`,
		`level=INFO msg="good again" was="watch /etc/nginx: no space left on device"`}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestSocketBroken: which errors a new socket may cure.
func TestSocketBroken(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{fmt.Errorf("read routes: %w", unix.ENOBUFS), true},
		{fmt.Errorf("read links: %w", net.ErrClosed), true},
		{errors.Join(unix.EINVAL, unix.EBADF), true},
		{unix.EAGAIN, true}, // the kernel has not answered in time
		{unix.ECONNREFUSED, true},
		{fmt.Errorf("ip route replace default: %w", unix.EINVAL), false},
		{errors.Join(unix.EEXIST, unix.ENETUNREACH), false},
		{unix.EPERM, false},
		{&routing.PolicyError{}, false},
		{&nginxconf.Error{Err: unix.EACCES}, false},
	} {
		if got := socketBroken(tt.err); got != tt.want {
			t.Errorf("%v: %t, want %t", tt.err, got, tt.want)
		}
	}
}

// TestClientBounds: an answer that never ends is cut off.
func TestClientBounds(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "sock"))
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		length := binary.BigEndian.AppendUint32([]byte{0xfc}, 900<<20) // of a gob's message
		_, err := w.Write(length)
		for chunk := make([]byte, 1<<20); err == nil; {
			var n int
			n, err = w.Write(chunk)
			sent.Add(int64(n))
		}
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	_, err = Client{l.Addr().String()}.Status()
	if err == nil || !strings.Contains(err.Error(), "longer than") ||
		sent.Load() > 2*answerMost {
		t.Errorf("%d bytes sent: %v", sent.Load(), err)
	}
}

// TestMetricsOfContainers: two containers with one path of the configuration
// are told apart, and the host's own has the labels that it always had.
func TestMetricsOfContainers(t *testing.T) {
	t.Parallel()
	st := report.Status{Masters: []report.Master{{PID: 7, Conf: "/n.conf", Generation: 3},
		{PID: 8, Conf: "/n.conf", Root: "/proc/8/root", Generation: 1, Loaded: time.Unix(5, 0)},
		{PID: 9, Conf: "/n.conf", Root: "/proc/9/root", Generation: 2}}}
	text := scraped(t, st)
	for _, line := range []string{`lasthop_nginx_generation{conf="/n.conf"} 3`,
		`lasthop_nginx_generation{conf="/n.conf",root="/proc/8/root"} 1`,
		`lasthop_nginx_generation{conf="/n.conf",root="/proc/9/root"} 2`,
		`lasthop_nginx_loaded_timestamp_seconds{conf="/n.conf",root="/proc/8/root"} 5`} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
}

// TestEasyLog: a log that is not read delays nothing, and the loss is reported
// when it is read again.
func TestEasyLog(t *testing.T) {
	r, w := io.Pipe() // takes nothing before it is read
	l := newEasyLog(w, journal.Place{})
	start := time.Now()
	for range 50 {
		if n, err := l.Write([]byte("line\n")); n != 5 || err != nil {
			t.Fatal(n, err)
		}
	}
	if d := time.Since(start); d > 10*lineTime {
		t.Errorf("50 lines took %v", d)
	}
	lines := bufio.NewReader(r)
	next := func() string {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Error(err)
		}
		return line
	}
	got := []string{next()}
	l.busy <- struct{}{} // until the first line is done
	<-l.busy
	read := make(chan struct{})
	go func() { got = append(got, next(), next()); close(read) }()
	_, _ = l.Write([]byte("again\n"))
	<-read
	want := []string{"line\n", "again\n",
		"level=WARN msg=\"log lines lost: the log did not take them in time\" lines=49\n"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestClientWords: the error of a daemon that does not answer, and of one that
// does not know the question, says so.
func TestClientWords(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path) // as of a daemon that is stopped
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	check := func(about string, err error, want, remedy string) {
		if err == nil || err.Error() != want || !strings.Contains(hint.Of(err), remedy) {
			t.Errorf("%s: %v (%s)", about, err, hint.Of(err))
		}
	}
	_, err = Client{path}.Status()
	check("stopped", err, "lasthop run does not answer within 15s", "whether it is stopped")
	go http.Serve(l, http.NotFoundHandler())
	check("older", Client{path}.Reload(""), "lasthop run answers 404 Not Found",
		"systemctl restart lasthop")
}
