package daemon

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"
	"lasthop/routing/host"
)

var (
	tornReloads = flag.Int("torn", 10, "reloads made by TestRunTorn")
	tornSeed    = flag.Uint64("torn-seed", 0, "of TestRunTorn; 0: another one each time")
)

// oracle looks at the sockets of a namespace and at the ways of their replies,
// and knows nothing of lasthop: all that listens there is NGINX's.
type oracle struct {
	eyes *host.Kernel
	down atomic.Bool // no daemon runs: none can add a way
	open map[netip.AddrPort]*openSince

	mu     sync.Mutex
	last   time.Time
	looks  int      // under mu
	faults []string // under mu
}

// openSince is a socket of NGINX's.
type openSince struct {
	inodes []uint32
	since  time.Time // it was open, and a daemon ran
	right  time.Time // its replies left by its link for the last time
}

// The way of a listener that is being opened may come and go for a moment: the
// present one may be that of an earlier listener, which has ended.
const (
	wayWithin = 2 * time.Second
	comesTill = 500 * time.Millisecond
)

// sockets lists those that have a link of their own to reply by.
func (o *oracle) sockets() (map[netip.AddrPort][]uint32, error) {
	list, err := o.eyes.Sockets()
	out := map[netip.AddrPort][]uint32{}
	for _, s := range list {
		if s.Transport == routing.TCP && linkOf(s.Local.Addr()) != "" {
			out[s.Local] = append(out[s.Local], s.Inode)
		}
	}
	return out, err
}

// linkOf is the link of an address of threeUplinks.
func linkOf(a netip.Addr) string {
	for n, link := range []string{"", "eth1", "eth2"} {
		if netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", n)).Contains(a) {
			return link
		}
	}
	return ""
}

// look looks once. What closes or opens meanwhile does not count.
func (o *oracle) look() error {
	before, err := o.sockets()
	if err != nil {
		return err
	}
	client := netip.MustParseAddr("198.51.100.10")
	var asked []netip.AddrPort
	var queries []routing.Query
	for at := range before {
		asked = append(asked, at)
		queries = append(queries, routing.Query{Src: at.Addr(), Dst: client})
	}
	ways, err := o.eyes.Ask(queries)
	if err != nil {
		return err
	}
	after, err := o.sockets()
	if err != nil {
		return err
	}
	now := time.Now()
	o.looks++
	o.stalled(now)
	for at := range o.open {
		if len(after[at]) == 0 {
			delete(o.open, at)
		}
	}
	for n, at := range asked {
		if same(before[at], after[at]) {
			o.judge(at, after[at], ways[n], now)
		}
	}
	return nil
}

// stalled subtracts the time in which the machine did not even look: NGINX and
// the daemon had to wait then, too.
func (o *oracle) stalled(now time.Time) {
	const often = 100 * time.Millisecond
	if gap := now.Sub(o.last); gap > often {
		for _, s := range o.open {
			s.since = s.since.Add(gap - often)
		}
	}
	o.last = now
}

// same reports whether a socket was open all the time.
func same(a, b []uint32) bool {
	return slices.ContainsFunc(a, func(i uint32) bool { return slices.Contains(b, i) })
}

func (o *oracle) judge(at netip.AddrPort, inodes []uint32, w routing.Way, now time.Time) {
	s := o.open[at]
	if s == nil || !same(s.inodes, inodes) {
		s = &openSince{since: now}
		o.open[at] = s
	}
	s.inodes = inodes
	if o.down.Load() {
		s.since = now
	}
	switch lost := !s.right.IsZero() && now.Sub(s.since) > comesTill; {
	case w.Link == linkOf(at.Addr()):
		s.right = now
		return
	case lost:
		o.faults = append(o.faults, fmt.Sprintf("%s %v: loses its way, %v after it was "+
			"opened: %s", now.Format(time.StampMilli), at,
			now.Sub(s.since).Round(time.Millisecond), w))
	case now.Sub(s.since) > nstest.Patience(wayWithin):
		o.faults = append(o.faults, fmt.Sprintf("%s %v: open for %v without its way: %s",
			now.Format(time.StampMilli), at, now.Sub(s.since), w))
	default:
		return
	}
	s.since, s.right = now, time.Time{} // logged once
}

// tornHost is a server whose NGINX resolves host names that the daemon cannot
// always resolve.
type tornHost struct {
	*server
	*oracle
	random *rand.Rand
	deaf   atomic.Bool // the daemon's resolver
	round  int
}

// tornAddrs are addresses that listens may name.
var tornAddrs = []string{"10.0.1.10", "10.0.1.100", "10.0.1.200", "10.0.2.10", "10.0.2.100",
	"10.0.2.200"}

// resolve is NGINX's /etc/hosts.
func (h *tornHost) resolve(name string) string {
	n := 0
	_, _ = fmt.Sscanf(name, "name%d.test", &n)
	return tornAddrs[n%len(tornAddrs)]
}

// startNginx starts NGINX, which can resolve all names.
func (h *tornHost) startNginx() {
	h.t.Helper()
	var hosts strings.Builder
	for n := range *tornReloads + 1 {
		name := fmt.Sprintf("name%d.test", n)
		fmt.Fprintln(&hosts, h.resolve(name), name)
	}
	h.StartNginxKnowing(hosts.String())
}

// forked are the children of a master that are workers.
func (h *tornHost) forked(master int) (out []int) {
	list, _ := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", master))
	for _, word := range strings.Fields(string(list)) {
		pid := 0
		title, _ := os.ReadFile("/proc/" + word + "/cmdline")
		if _, err := fmt.Sscan(word, &pid); err == nil &&
			strings.HasPrefix(string(title), "nginx: worker process") {
			out = append(out, pid)
		}
	}
	return out
}

// some is a configuration: one to three listens of addresses, and further
// servers that give NGINX something to read.
func (h *tornHost) some(more ...string) (listens []string) {
	for range 1 + h.random.IntN(3) {
		l := fmt.Sprintf("%s:%d", tornAddrs[h.random.IntN(len(tornAddrs))],
			[]int{80, 8080}[h.random.IntN(2)])
		if !slices.Contains(listens, l) {
			listens = append(listens, l)
		}
	}
	return append(listens, more...)
}

func (h *tornHost) write(listens []string) {
	h.t.Helper()
	var b strings.Builder
	for n := range h.random.IntN(2) * 800 {
		fmt.Fprintf(&b, "server { listen 10.0.0.10:%d; return 204; }\n", 10000+n)
	}
	h.Replace(fmt.Sprintf("%sevents { worker_connections 2048; }\nhttp {\naccess_log off;\n"+
		"server { listen %s; return 204; }\n%s}\n", h.Head(),
		strings.Join(listens, "; listen "), b.String()))
}

// wait waits for a random time.
func (h *tornHost) wait(most time.Duration) {
	pause(h.t.Context(), time.Duration(h.random.Int64N(int64(most))))
}

// tears are what happens to a reload, at some point of it. Each is given the
// listens that are loaded.
var tears = []struct {
	name string
	do   func(*tornHost, []string)
}{
	{"an edit", func(h *tornHost, is []string) {
		h.Reload()
		h.wait(60 * time.Millisecond)
		h.write(h.some())
	}},
	{"an edit, taken back", func(h *tornHost, is []string) {
		h.Reload()
		h.wait(10 * time.Millisecond)
		h.write(h.some())
		h.wait(time.Second)
		h.write(is)
	}},
	{"an unreadable moment", func(h *tornHost, is []string) {
		h.Reload()
		h.wait(40 * time.Millisecond)
		h.Replace("")
		h.wait(time.Second)
		h.write(is)
	}},
	{"a dead resolver", func(h *tornHost, is []string) {
		h.deaf.Store(true)
		h.write(append(is, fmt.Sprintf("name%d.test:81", h.round)))
		h.wait(50 * time.Millisecond)
		h.Reload()
		h.wait(3 * time.Second)
		h.deaf.Store(false)
	}},
	{"a crashed worker", func(h *tornHost, is []string) {
		first := h.random.IntN(2) == 0
		if !first {
			h.Reload()
			h.wait(200 * time.Millisecond)
		}
		if w := h.forked(h.PID()); len(w) > 0 {
			_ = syscall.Kill(w[h.random.IntN(len(w))], syscall.SIGKILL)
		}
		if first {
			h.wait(100 * time.Millisecond)
			h.Reload()
		}
	}},
	{"a daemon that is busy elsewhere", func(h *tornHost, is []string) {
		busy := make(chan struct{})
		go func() {
			defer close(busy)
			h.d.calls <- func() { pause(h.t.Context(), 500*time.Millisecond) }
		}()
		pause(h.t.Context(), 5*time.Millisecond)
		h.Reload()
		pause(h.t.Context(), 300*time.Millisecond)
		h.write(is[:1])
		<-busy
	}},
	{"a daemon that is started again", func(h *tornHost, is []string) {
		h.down.Store(true)
		if err := h.end(); err != nil {
			h.t.Error(err)
		}
		h.Reload()
		h.wait(400 * time.Millisecond)
		h.write(h.some())
		h.begin()
		h.down.Store(false)
	}},
	{"an upgrade", func(h *tornHost, is []string) {
		old := h.PID()
		h.Signal(syscall.SIGUSR2)
		h.Until("the new master", func() bool {
			return h.PID() != 0 && h.PID() != old && len(h.forked(h.PID())) == 2
		})
		h.wait(time.Second)
		ends := []int{old, h.PID()}[h.random.IntN(2)]
		_ = syscall.Kill(ends, syscall.SIGQUIT)
		h.Until("the end of a master", func() bool { return syscall.Kill(ends, 0) != nil })
		h.Until("one pid file", func() bool { return h.PID() != ends && h.PID() != 0 })
	}},
}

// begin starts the daemon.
func (h *tornHost) begin() {
	h.start(func(o *Options) {
		o.Lookup = func(_ context.Context, name string) ([]netip.Addr, error) {
			if h.deaf.Load() {
				return nil, errors.New("the resolver is dead")
			}
			return []netip.Addr{netip.MustParseAddr(h.resolve(name))}, nil
		}
	})
}

// TestRunTorn: reloads, each with an edit, an unreadable moment, a dead
// resolver, a crashed worker or the like at a random point. No listener that
// NGINX serves loses its way, and none that it has opened is without one for
// 2 s. After a reload that nothing tears, the daemon follows the configuration
// and nothing else.
func TestRunTorn(t *testing.T) {
	t.Parallel()
	seed := *tornSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	s := newServer(t)
	s.Lines("addr add 10.0.1.200/24 dev eth1\naddr add 10.0.2.200/24 dev eth2")
	eyes, err := host.Open(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer eyes.Close()
	h := &tornHost{server: s, oracle: &oracle{eyes: eyes,
		open: map[netip.AddrPort]*openSince{}}, random: rand.New(rand.NewPCG(seed, 0))}
	h.startNginx()
	h.begin()
	end := h.watch(t)
	said := 0
	for h.round = 1; h.round <= *tornReloads && !t.Failed(); h.round++ {
		listens := h.some()
		h.write(listens)
		h.wait(100 * time.Millisecond)
		tear := tears[h.random.IntN(len(tears))]
		started := time.Now()
		tear.do(h, listens)
		h.wait(2500 * time.Millisecond)
		h.mu.Lock()
		for _, f := range h.faults[said:] {
			t.Errorf("seed %d, reload %d, %s of %v at %s: %s", seed, h.round, tear.name,
				listens, started.Format(time.StampMilli), f)
		}
		said = len(h.faults)
		h.mu.Unlock()
		if h.round%5 == 0 {
			h.whole()
		}
	}
	end()
	t.Logf("seed %d: %d reloads, %d looks, %d faults", seed, h.round-1, h.looks,
		len(h.faults))
}

// whole makes a reload that nothing tears.
func (h *tornHost) whole() {
	h.t.Helper()
	listens := h.some()
	h.write(listens)
	pause(h.t.Context(), 100*time.Millisecond)
	h.Reload()
	explain := h.Explain
	defer func() { h.Explain = explain }()
	h.Explain = h.state
	h.Until(fmt.Sprintf("%v and nothing else", listens), func() bool {
		st := h.status()
		var got []string
		for _, o := range st.Plan.Outcomes {
			if linkOf(o.Addr) != "" {
				got = append(got, fmt.Sprintf("%s:%s", o.Addr, o.PortName()))
			}
		}
		slices.Sort(got)
		want := slices.Sorted(slices.Values(listens))
		return slices.Equal(got, want) && st.InSync &&
			!slices.ContainsFunc(st.Plan.Findings, func(f routing.Finding) bool {
				return f.Code == "not-loaded" || f.Code == "socket-unexplained"
			})
	})
}

// state returns what the daemon believes.
func (h *tornHost) state() string {
	st := h.status()
	text := fmt.Sprintf("in sync %t, %q, %v, %+v\n", st.InSync, st.Wrong, st.Plan.Findings,
		st.Masters)
	for _, o := range st.Plan.Outcomes {
		text += fmt.Sprintf("%s:%s ", o.Addr, o.PortName())
	}
	h.loop(func() {
		for _, i := range h.d.fleet.instances {
			for _, l := range i.leaving {
				text += fmt.Sprintf("\nleaving %s: %v, %d", l.listener.Text,
					l.workers, l.owner)
			}
		}
	})
	return text
}

// watch looks all the time, until the test ends it.
func (h *tornHost) watch(t *testing.T) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var task sync.WaitGroup
	task.Go(func() {
		for ctx.Err() == nil {
			h.mu.Lock()
			err := h.look()
			h.mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			pause(ctx, 10*time.Millisecond)
		}
	})
	return func() { cancel(); task.Wait() }
}
