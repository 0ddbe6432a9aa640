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

	"lasthop/internal/settings"
	"lasthop/routing"
	"lasthop/routing/sim"
)

var (
	randomSeed = flag.Uint64("seed", 1,
		"seed of the first random host; the next has the next seed")
	randomHosts = flag.Int("hosts", 200, "number of random hosts")
	shrinkTime  = flag.Duration("shrink", 20*time.Second,
		"how long a host that fails is shrunk")
)

// TestRandomHosts compares what `lasthop explain` says with the kernel on
// random hosts, before and after apply, for every listener and class of client,
// and for packets with a mark and of sockets bound to a device. `-seed N -hosts
// 1` replays one.
func TestRandomHosts(t *testing.T) {
	t.Parallel()
	t.Logf("seeds %d to %d", *randomSeed, *randomSeed+uint64(*randomHosts)-1)
	seen := map[string]int{}
	total := tally{steps: map[string]int{}}
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
				t.Errorf("go test -run TestRandomHosts ./cmd/lasthop -args -seed "+
					"%d -hosts 1\n%v\nsmallest host:\n%s\n%v", g.seed, err,
					strings.Join(lines, "\n"), again)
			}
		})
	}
	t.Logf("%d hosts, %d listeners, %d paths, %d lookups compared, %d IPv4 ones skipped for "+
		"an absent source, %d IPv6 ones for source and device",
		*randomHosts, total.listeners, total.paths, total.compared, total.skipped,
		total.bound)
	t.Log("not compared, since a namespace here or the question cannot hold it: vrf and " +
		"l3mdev, dscp, encap, PMTU exceptions, states of neighbours, unknown metrics; of " +
		"uidrange, tos and tun_id only that they match no plain packet")
	for _, f := range allFeatures {
		t.Logf("%5d hosts with %s", seen[f], f)
		if *randomHosts >= 100 && seen[f]*5 < *randomHosts {
			t.Errorf("only %d of %d hosts have %s, want a fifth", seen[f],
				*randomHosts, f)
		}
	}
	for _, s := range allSteps {
		t.Logf("%8d times: %s", total.steps[s], s)
		if *randomHosts >= 100 && total.steps[s] < *randomHosts {
			t.Errorf("%s only %d times on %d hosts", s, total.steps[s], *randomHosts)
		}
	}
}

// allSteps are what the compared lookups met: each selector, alone or with
// others, in rules that match and that do not, and each effect.
var allSteps = []string{"from matched", "from not-matched", "to matched", "to not-matched",
	"iif matched", "iif not-matched", "oif matched", "oif not-matched", "fwmark matched",
	"fwmark not-matched", "not matched", "not not-matched", "no-route", "throw", "answered",
	"rejected", "goto", "no-target", "nop", "suppressed by suppress_prefixlength",
	"suppressed by suppress_ifgroup", "rejected by a route", "rejected by a rule", "multipath",
	"another default of the metric", "ports matched", "ports not-matched",
	"a ban before and after"}

// tally counts what a check did.
type tally struct {
	listeners, paths, compared, skipped, bound int
	steps                                      map[string]int
}

func (a *tally) add(b tally) {
	a.listeners += b.listeners
	a.paths += b.paths
	a.compared += b.compared
	a.skipped += b.skipped
	a.bound += b.bound
	for s, n := range b.steps {
		a.steps[s] += n
	}
}

// count notes what a lookup met.
func (a *tally) count(trace routing.Trace) {
	a.compared++
	if len(trace.Ends) > 1 {
		a.steps["multipath"]++
	}
	for _, s := range trace.Steps {
		r := s.Rule
		matched := " matched"
		if !s.Matched() {
			matched = " not-matched"
		}
		for name, has := range map[string]bool{"from": r.From.Bits() > 0,
			"to": r.To.Bits() > 0, "iif": r.IIF != "", "oif": r.OIF != "",
			"fwmark": r.Mask != 0, "not": r.Not, "ports": portRule(r)} {
			if has {
				a.steps[name+matched]++
			}
		}
		effect := string(s.Effect)
		switch {
		case s.Effect == routing.Suppressed && s.Route.Dst.Bits() <= r.SuppressPrefix:
			effect += " by suppress_prefixlength"
		case s.Effect == routing.Suppressed:
			effect += " by suppress_ifgroup"
		case s.Effect == routing.Rejected && s.Route != nil:
			a.steps["rejected by a route"]++
		case s.Effect == routing.Rejected:
			a.steps["rejected by a rule"]++
		}
		a.steps[effect]++
	}
}

// world is what the lines of a random host mean: lines of package sim, flags,
// `listen ADDR`, `bind ADDR [transparent] UPSTREAM…` and `client ADDR`.
type world struct {
	scenario
	clients []netip.Addr
}

func parseWorld(lines []string) (*world, error) {
	w := &world{}
	var decided settings.Flags
	var hostLines []string
	for _, line := range lines {
		words := strings.Fields(line)
		var err error
		switch {
		case strings.HasPrefix(line, "--"):
			err = addFlag(&decided, line)
		case words[0] == "listen":
			a := netip.MustParseAddr(words[1])
			w.inputs.Listeners = append(w.inputs.Listeners, routing.Listener{Addr: a,
				Ports:     routing.PortRange{First: 80, Last: 80},
				Transport: routing.TCP, Listen: words[1]})
		case words[0] == "bind":
			b := routing.Bind{Addr: netip.MustParseAddr(words[1]),
				Transparent: slices.Contains(words, "transparent")}
			for _, u := range words[2:] {
				if a, err := netip.ParseAddr(u); err == nil {
					b.Upstreams = append(b.Upstreams, a)
				}
			}
			w.inputs.Binds = append(w.inputs.Binds, b)
		case words[0] == "client":
			w.clients = append(w.clients, netip.MustParseAddr(words[1]))
		default:
			hostLines = append(hostLines, line)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
	}
	set, err := settings.Load(decided)
	if err != nil {
		return nil, err
	}
	w.inputs.Policy = set.Policy
	if w.sim, err = sim.Parse(strings.Join(hostLines, "\n")); err != nil {
		return nil, err
	}
	return w, set.Policy.Validate(w.sim.Host)
}

// errWorld marks lines that make no host at all: the generator's fault, or a
// step of shrinking that went too far.
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
	c := &checker{world: w, ns: ns,
		did: tally{listeners: len(w.inputs.Listeners), steps: map[string]int{}}}
	err = c.recovered(t)
	return c.did, err
}

// recovered makes an error of a panic of the planner, so that its host is
// shrunk like any other.
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
	n := c.inputs.Policy.Numbers
	foreign := foreignState(before, n)
	d, err := routing.Decide(c.on(before))
	if err != nil {
		return fmt.Errorf("decide: %w", err)
	}
	plan := d.Plan
	c.did.paths = len(plan.Paths)
	foretold := routing.NewExplainer(before, c.inputs.Policy, plan.State)
	now := func(q routing.Query) routing.Trace { return foretold.Explain(q).Now }
	if err := c.compareLookups(before, plan, now); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	if _, err := c.ns.kernel.Write(d.Diff); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	after := c.ns.read(t, c.sim)
	if err := sameText("read back", plan.State.String(),
		routing.Owned(after, n).String()); err != nil {
		return err
	}
	again, err := routing.Decide(c.on(after))
	if err != nil {
		return fmt.Errorf("second sync: %w", err)
	}
	if err := sameText("second sync", plan.State.String(),
		again.Plan.State.String()); err != nil {
		return err
	}
	if err := sameText("apply changed what is not ours", foreign,
		foreignState(after, n)); err != nil {
		return err
	}
	var lifted error
	then := func(q routing.Query) routing.Trace {
		x := foretold.Explain(q)
		if lifted == nil {
			lifted = c.keepsBan(q, x)
		}
		return x.After
	}
	if err := c.compareLookups(after, plan, then); err != nil {
		return fmt.Errorf("after: %w", err)
	}
	if err := errors.Join(c.leavesByOwnLink(plan), lifted); err != nil {
		return err
	}
	return c.clear(t, after, foreign)
}

// clear takes away what lasthop owns, and only that.
func (c *checker) clear(t *testing.T, after routing.Host, foreign string) error {
	n := c.inputs.Policy.Numbers
	if _, err := c.ns.kernel.Write(
		routing.Compare(routing.Owned(after, n), routing.State{})); err != nil {
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

// compareLookups asks the kernel and explain about the queries.
func (c *checker) compareLookups(h routing.Host, plan routing.Plan,
	explain func(routing.Query) routing.Trace) error {
	all := c.queries(h, plan)
	qs := slices.DeleteFunc(slices.Clone(all), boundIPv6)
	c.did.bound += len(all) - len(qs)
	ways, err := c.ns.kernel.Ask(qs)
	if err != nil {
		return fmt.Errorf("ask the kernel: %w", err)
	}
	for i, q := range qs {
		if err := c.compareLookup(q, ways[i], explain(q)); err != nil {
			return err
		}
	}
	return nil
}

// queries are every listener's replies to every client, and packets whose
// source is not chosen yet; each also with a mark, or from a socket that is
// bound to a device.
func (c *checker) queries(h routing.Host, plan routing.Plan) []routing.Query {
	var sources []routing.Listener
	for _, o := range plan.Outcomes {
		sources = append(sources, o.Listener)
	}
	sources = append([]routing.Listener{{}}, sources...)
	n, replies := 0, routing.RepliesOn(h)
	var qs []routing.Query
	for _, l := range sources {
		for _, dst := range c.clients {
			src := l.Addr
			if src.IsValid() && src.Is4() != dst.Is4() {
				continue
			}
			if src.IsValid() && absent(h, src) {
				c.did.skipped++
				continue
			}
			n++
			q := replies.To(routing.Listener{Addr: dst, Transport: routing.TCP}, dst)
			if q.Src = src; src.IsValid() {
				q = replies.To(l, dst)
			}
			qs = append(qs, q, c.variant(h, q, n))
		}
	}
	return qs
}

// variant gives a query a mark, a device or another protocol, or several of
// them.
func (c *checker) variant(h routing.Host, q routing.Query, n int) routing.Query {
	if n%2 == 0 || n%7 == 0 {
		q.Mark = marks[n/2%len(marks)]
	}
	if n%2 == 1 {
		q.OIF = h.Links[n/2%len(h.Links)].Name
	}
	if n%3 == 0 && q.Proto != 0 {
		q.Proto, q.Sport, q.Dport = 17, 53, 123
	}
	return q
}

// portRule reports whether a rule tells protocols or ports apart.
func portRule(r routing.Rule) bool {
	known, _ := r.Selectors()
	return slices.ContainsFunc(known, func(s [2]string) bool {
		return s[0] == "ipproto" || s[0] == "sport" || s[0] == "dport"
	})
}

// keepsBan checks that what a foreign ban rejects is rejected after apply, too.
// It leaves out sockets bound to a device (they send no reply); what the user
// sends main's way; packets that a table threw back or that have the mark to
// skip a catch-all (a ban behind that is dead for all other packets); routes
// for some sources, which are never copied; and rules against hosts of a LAN
// that a manager has moved out of main: the path's table answers in main's
// place.
func (c *checker) keepsBan(q routing.Query, x routing.Explanation) error {
	passed := func(s routing.Step) bool {
		return s.Effect == routing.Thrown || q.Mark != 0 && !s.Matched() &&
			(s.Rule.Not || s.Rule.Mask != 0 && s.Rule.Mark == 0)
	}
	if !bans(x.Now) || q.OIF != "" || slices.ContainsFunc(x.Now.Steps, passed) ||
		slices.ContainsFunc(c.inputs.Policy.Direct,
			func(p netip.Prefix) bool { return p.Contains(q.Dst) }) {
		return nil
	}
	moved := x.After.Route != nil && !x.After.Route.IsDefault() && x.Now.Route == nil &&
		c.inputs.Policy.Numbers.OwnsTable(x.After.Route.Table)
	last := x.After.Steps[len(x.After.Steps)-1]
	if last.Effect != routing.Rejected && !moved {
		return fmt.Errorf("ban lifted: %s\nbefore: %s\nafter: %s", asked(q), steps(x.Now),
			steps(x.After))
	}
	c.did.steps["a ban before and after"]++
	return nil
}

// bans reports whether a lookup ends at a route or a rule that was written
// against some clients: at no default, and at no rule for every packet.
func bans(t routing.Trace) bool {
	if len(t.Steps) == 0 {
		return false
	}
	last := t.Steps[len(t.Steps)-1]
	r := last.Rule
	switch {
	case last.Effect != routing.Rejected:
		return false
	case last.Route != nil && last.Route.Source().IsValid():
		return false
	case last.Route != nil:
		dst := last.Route.Dst
		private := netip.MustParsePrefix("fc00::/7")
		return dst.Bits() > 15 || dst.Addr().Is4() && dst.Bits() > 7 ||
			dst.Bits() >= 7 && private.Contains(dst.Addr())
	}
	return r.From.Bits() > 0 || r.To.Bits() > 0 || r.OIF != "" || r.Mask != 0 && !r.Not ||
		r.Opaque != "" && !strings.HasPrefix(r.Opaque, "realms")
}

// marks are those that rules of random hosts ask for, and near misses.
var marks = []uint32{0x10, 0x110, 0x1, 0x3, 0xca6c, 0x20, 0x8000, 0x100, 0x2, 0x80000, 0x300}

// compareLookup compares the kernel's way with what explain says.
func (c *checker) compareLookup(q routing.Query, way routing.Way, trace routing.Trace) error {
	c.did.count(trace)
	if q.Dst.Is4() && trace.Route != nil && len(trace.Route.Hops) == 1 &&
		way.Via != trace.Way.Via {
		c.did.steps["another default of the metric"]++
	}
	if !trace.Agrees(way) {
		return fmt.Errorf("%s: the kernel says %s (table %d), "+
			"explain says %s (table %d)\n%s", asked(q), way, way.Table, trace.Way,
			trace.Way.Table, steps(trace))
	}
	return nil
}

// asked is the question as arguments of `ip route get`.
func asked(q routing.Query) string {
	text := q.Dst.String()
	if q.Src.IsValid() {
		text += " from " + q.Src.String()
	}
	if q.OIF != "" {
		text += " oif " + q.OIF
	}
	if q.Mark != 0 {
		text += fmt.Sprintf(" mark %#x", q.Mark)
	}
	if q.Proto != 0 {
		text += fmt.Sprintf(" ipproto %d sport %d dport %d", q.Proto, q.Sport, q.Dport)
	}
	return text
}

// leavesByOwnLink checks that, without a reported shadow, off-link replies of a
// listener leave by its own link.
func (c *checker) leavesByOwnLink(plan routing.Plan) error {
	if slices.ContainsFunc(plan.Findings,
		func(f routing.Finding) bool { return f.Code == "shadowed" }) {
		return nil
	}
	for _, o := range plan.Outcomes {
		promised := o.Status == routing.Ready || o.Status == routing.Armed ||
			o.Status == routing.Unchanged
		if promised && (o.After.Type != routing.Unicast || o.After.Link != o.Link) {
			return fmt.Errorf("%s is %s on %s, but its replies go: %s", o.Addr,
				o.Status, o.Link, o.After)
		}
	}
	return nil
}

// tryBuild makes the simulated host and waits for the kernel to be done with
// it.
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
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(
		time.Millisecond) {
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
	for end, i := time.Now().Add(*shrinkTime),
		len(lines)-1; i >= 0 && time.Now().Before(end); i-- {
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
