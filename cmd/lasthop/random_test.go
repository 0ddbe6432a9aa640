package main_test

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
	"lasthop/routing/host"
	"lasthop/routing/sim"
)

var (
	randomSeed  = flag.Uint64("seed", 1, "seed of the first random host; the next has the next seed")
	randomHosts = flag.Int("hosts", 300, "number of random hosts")
)

// TestRandomHosts compares routing.Lookup with the kernel on random hosts, before and after apply, for every listener and
// class of client. `-seed N -hosts 1` replays one.
func TestRandomHosts(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	var total tally
	for i := range *randomHosts {
		g := generate(*randomSeed + uint64(i))
		for f := range g.features {
			seen[f]++
		}
		t.Run(fmt.Sprint("seed=", g.seed), func(t *testing.T) {
			n, err := checkLines(t, g.lines)
			total.add(n)
			if err != nil {
				lines := shrink(t, g.lines, err)
				_, again := checkLines(t, lines)
				t.Errorf("go test -run TestRandomHosts ./cmd/lasthop -args -seed %d -hosts 1\n%v\nsmallest host:\n%s\n%v", g.seed, err, strings.Join(lines, "\n"), again)
			}
		})
	}
	t.Logf("seeds %d to %d: %d hosts, %d listeners, %d paths, %d lookups compared, %d IPv4 ones skipped for an absent source",
		*randomSeed, *randomSeed+uint64(*randomHosts)-1, *randomHosts, total.listeners, total.paths, total.compared, total.skipped)
	for _, f := range allFeatures {
		t.Logf("%4d hosts with %s", seen[f], f)
		if *randomHosts >= 100 && seen[f]*5 < *randomHosts {
			t.Errorf("only %d of %d hosts have %s, want a fifth", seen[f], *randomHosts, f)
		}
	}
}

// tally counts what a check did.
type tally struct{ listeners, paths, compared, skipped int }

func (a *tally) add(b tally) {
	a.listeners += b.listeners
	a.paths += b.paths
	a.compared += b.compared
	a.skipped += b.skipped
}

// world is what the lines of a random host mean: lines of package sim, flags, `listen ADDR`, `bind ADDR [transparent]
// UPSTREAM…` and `client ADDR`.
type world struct {
	scenario
	clients []netip.Addr
}

func parseWorld(lines []string) (*world, error) {
	w := &world{scenario: scenario{policy: routing.Policy{Numbers: routing.DefaultNumbers}}}
	var hostLines []string
	for _, line := range lines {
		words := strings.Fields(line)
		var err error
		switch {
		case strings.HasPrefix(line, "--"):
			err = w.flag(line)
		case words[0] == "listen":
			a := netip.MustParseAddr(words[1])
			w.listeners = append(w.listeners, routing.Listener{Addr: a, Ports: routing.PortRange{First: 80, Last: 80}, Transport: routing.TCP, Listen: words[1]})
		case words[0] == "bind":
			b := routing.Bind{Addr: netip.MustParseAddr(words[1]), Transparent: slices.Contains(words, "transparent")}
			for _, u := range words[2:] {
				if a, err := netip.ParseAddr(u); err == nil {
					b.Upstreams = append(b.Upstreams, a)
				}
			}
			w.binds = append(w.binds, b)
		case words[0] == "client":
			w.clients = append(w.clients, netip.MustParseAddr(words[1]))
		default:
			hostLines = append(hostLines, line)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
	}
	var err error
	if w.sim, err = sim.Parse(strings.Join(hostLines, "\n")); err != nil {
		return nil, err
	}
	return w, w.policy.Validate(w.sim.Host)
}

// errWorld marks lines that make no host at all: the generator's fault, or a step of shrinking that went too far.
var errWorld = errors.New("the lines make no host")

// checkLines makes the host in a namespace and says what is wrong with it.
func checkLines(t *testing.T, lines []string) (tally, error) {
	w, err := parseWorld(lines)
	if err != nil {
		return tally{}, fmt.Errorf("%w: %w", errWorld, err)
	}
	ns := newNamespace(t)
	if err := ns.tryBuild(w.sim); err != nil {
		return tally{}, fmt.Errorf("%w: %w", errWorld, err)
	}
	c := &checker{world: w, ns: ns, did: tally{listeners: len(w.listeners)}}
	err = c.recovered(t)
	return c.did, err
}

// recovered makes an error of a panic of the planner, so that its host is shrunk like any other.
func (c *checker) recovered(t *testing.T) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return c.check(t)
}

type checker struct {
	*world
	ns  *namespace
	did tally
}

func (c *checker) check(t *testing.T) error {
	before := c.ns.read(t, c.sim)
	if d := compareHosts(c.sim.Host, before); d != "" {
		return fmt.Errorf("the simulation is not what the kernel has: -sim +kernel\n%s", d)
	}
	n := c.policy.Numbers
	foreign := foreignState(before, n)
	plan := routing.Build(before, c.listeners, c.binds, c.policy)
	c.did.paths = len(plan.Paths)
	if err := c.compareLookups(before, plan); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	if _, err := routing.Execute(routing.Compare(routing.Owned(before, n), plan.State), c.ns.kernel.Do); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	after := c.ns.read(t, c.sim)
	if err := sameText("read back", plan.State.String(), routing.Owned(after, n).String()); err != nil {
		return err
	}
	again := routing.Build(after, c.listeners, c.binds, c.policy)
	if err := sameText("second sync", plan.State.String(), again.State.String()); err != nil {
		return err
	}
	if err := sameText("apply changed what is not ours", foreign, foreignState(after, n)); err != nil {
		return err
	}
	if err := c.compareLookups(after, plan); err != nil {
		return fmt.Errorf("after: %w", err)
	}
	if err := c.leavesByOwnLink(plan); err != nil {
		return err
	}
	if _, err := routing.Execute(routing.Compare(routing.Owned(after, n), routing.State{}), c.ns.kernel.Do); err != nil {
		return fmt.Errorf("clear: %w", err)
	}
	cleared := c.ns.read(t, c.sim)
	return errors.Join(sameText("clear left something", "", routing.Owned(cleared, n).String()),
		sameText("clear changed what is not ours", foreign, foreignState(cleared, n)))
}

func sameText(what, want, got string) error {
	if d := cmp.Diff(want, got); d != "" {
		return fmt.Errorf("%s: -want +got\n%s", what, d)
	}
	return nil
}

// compareLookups asks the kernel and Lookup what becomes of every listener's replies to every client, and of packets whose
// source is not chosen yet.
func (c *checker) compareLookups(h routing.Host, plan routing.Plan) error {
	fib := routing.NewFIB(h)
	sources := []netip.Addr{{}}
	for _, o := range plan.Outcomes {
		sources = append(sources, o.Addr)
	}
	for _, src := range sources {
		for _, dst := range c.clients {
			if src.IsValid() && src.Is4() != dst.Is4() {
				continue
			}
			if src.IsValid() && absent(h, src) {
				c.did.skipped++
				continue
			}
			c.did.compared++
			if err := compareLookup(c.ns.kernel, fib, routing.Query{Src: src, Dst: dst}); err != nil {
				return err
			}
		}
	}
	return nil
}

func compareLookup(k *host.Kernel, fib *routing.FIB, q routing.Query) error {
	trace := fib.Lookup(q)
	way, err := kernelWay(k, q)
	if err != nil {
		return fmt.Errorf("%s -> %s: the kernel says %w, Lookup says %s", q.Src, q.Dst, err, trace.Way)
	}
	if !trace.Agrees(way) {
		return fmt.Errorf("%s -> %s: the kernel says %s (table %d), Lookup says %s (table %d)\n%s",
			q.Src, q.Dst, way, way.Table, trace.Way, trace.Way.Table, steps(trace))
	}
	return nil
}

// leavesByOwnLink holds the plan to its word: with no shadow reported, off-link replies of a listener leave by its own link.
func (c *checker) leavesByOwnLink(plan routing.Plan) error {
	if slices.ContainsFunc(plan.Findings, func(f routing.Finding) bool { return f.Code == "shadowed" }) {
		return nil
	}
	for _, o := range plan.Outcomes {
		promised := o.Status == routing.Ready || o.Status == routing.Armed || o.Status == routing.Unchanged
		if promised && (o.After.Type != routing.Unicast || o.After.Link != o.Link) {
			return fmt.Errorf("%s is %s on %s, but its replies go: %s", o.Addr, o.Status, o.Link, o.After)
		}
	}
	return nil
}

// tryBuild makes the simulated host and waits for the kernel to be done with it.
func (n *namespace) tryBuild(s *sim.Sim) error {
	all, six := s.Batch()
	for _, b := range []struct{ option, lines string }{{"-4", all}, {"-6", six}} {
		if b.lines == "" {
			continue
		}
		args := []string{"ip", "-batch", "-"}
		if b.option == "-6" {
			args = []string{"ip", "-6", "-batch", "-"}
		}
		cmd := n.Command(args...)
		cmd.Stdin = strings.NewReader(b.lines)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("ip -batch: %w\n%s", err, out)
		}
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		h, err := n.kernel.Read()
		if err != nil {
			return err
		}
		if len(sim.Drop(h).Routes) == len(s.Host.Routes) {
			return nil
		}
	}
	return nil // the caller compares, and says what differs
}

// shrink leaves lines out as long as something goes wrong in the same way.
func shrink(t *testing.T, lines []string, failure error) []string {
	kind := failureKind(failure)
	for end, i := time.Now().Add(20*time.Second), len(lines)-1; i >= 0 && time.Now().Before(end); i-- {
		less := slices.Delete(slices.Clone(lines), i, i+1)
		if _, err := checkLines(t, less); err != nil && failureKind(err) == kind {
			lines = less
		}
	}
	return lines
}

// failureKind is the error's text up to its first colon.
func failureKind(err error) string {
	kind, _, _ := strings.Cut(err.Error(), ":")
	return kind
}
