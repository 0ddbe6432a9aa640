package netlab

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// suspect is a fault of a request that the network has not proved yet.
type suspect struct {
	request int
	Fault
}

// trial is lasthop on the host of one network.
type trial struct {
	*built
	bin, dir      string
	plan          plan
	checkCode     int
	checkSaid     string
	before, after answers
	seer          *observer
	rungs         map[int]*[2]int
	suspects      []suspect
	faults        []Fault
	tamper        func(*trial) // plants a fault after apply, in a test of the oracle
}

// try builds a network and returns its faults.
func try(t testing.TB, n *Network, bin string, tamper func(*trial)) Result {
	r := Result{Seed: n.Seed, Ingredients: sorted(n.Ingredients), Requests: len(n.Requests),
		Rungs: map[int][2]int{}}
	x := &trial{faults: []Fault{}, bin: bin, dir: t.TempDir(), tamper: tamper,
		rungs: map[int]*[2]int{}}
	for i := range 6 {
		x.rungs[i] = &[2]int{}
	}
	var err error
	if x.built, err = build(t, n); err == nil {
		err = x.run()
	}
	if err != nil {
		r.Error = err.Error()
		return r
	}
	r.Faults, r.Promised, r.Moved = x.faults, x.promised(), x.moved()
	r.Ways, r.Compared = x.seer.ways(), x.seer.compared
	for i, c := range x.rungs {
		if c[1] > 0 {
			r.Rungs[i] = *c
		}
	}
	return r
}

// promised counts the listeners whose rows ask for nothing, and of these the
// ones that are dark for a class which the plan does not name.
func (t *trial) promised() (n [2]int) {
	for _, l := range t.Listeners {
		if t.plan.asks(l) {
			continue
		}
		n[1]++
		to := "-> " + l.Addr.String()
		if slices.ContainsFunc(t.faults, func(f Fault) bool {
			return f.Kind == readyButDark && strings.HasSuffix(f.Subject, to)
		}) {
			n[0]++
		}
	}
	return n
}

// moved counts the requests that the plan names as moved, and of these the lost
// ones.
func (t *trial) moved() (n [2]int) {
	for _, q := range t.Requests {
		if q.provable() && t.plan.moved(q) {
			n[1]++
		}
	}
	for _, f := range t.faults {
		if f.Kind == movedAndLost {
			n[0]++
		}
	}
	return n
}

// run goes from the original host through apply and clear back to the original
// host.
func (t *trial) run() error {
	if err := t.files(t.dir); err != nil {
		return err
	}
	stop, err := t.serve()
	if err != nil {
		return err
	}
	defer stop()
	if t.before, err = t.ask(t.present()); err != nil {
		return err
	}
	state, err := t.snapshot() // not earlier: IPv6 addresses take their time
	if err != nil {
		return err
	}
	t.talks.reset() // the snapshot would contain them
	if err := t.observe(); err != nil {
		return err
	}
	defer t.seer.close()
	if err := t.applied(); err != nil {
		return err
	}
	if err := t.watchedAsk(); err != nil {
		return err
	}
	t.judge()
	if err := t.withFlags(); err != nil {
		return err
	}
	if err := t.cleared(state); err != nil {
		return err
	}
	return t.prove()
}

// present returns the requests before a failover: it leaves out a request for
// an address that no host has; its place stays.
func (t *trial) present() []Request {
	list := slices.Clone(t.Requests)
	for i, q := range list {
		if q.Listener != nil && q.Listener.Place == placeStandby {
			list[i].Client = nil
		}
	}
	return list
}

// command runs lasthop with the host's nginx.conf.
func (t *trial) command(args ...string) ([]byte, int, error) {
	return t.lasthop(t.bin, t.dir, append(args, "-c", t.dir+"/nginx.conf")...)
}

// applied plans, applies and, after a failover, checks.
func (t *trial) applied() error {
	out, code, err := t.command("plan", "-o", "json")
	if code != 0 || err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	if t.plan, err = parsePlan(out); err != nil {
		return err
	}
	t.notice()
	if _, code, err := t.command("apply", "-o", "json"); code != 0 {
		t.faults = append(t.faults, Fault{Kind: applyFails, Detail: err.Error()})
	} else if err != nil {
		return err
	}
	t.notice()
	if err := t.again(); err != nil {
		return err
	}
	if t.tamper != nil {
		t.tamper(t)
	}
	if err := t.batch(host, "", t.Host.Later); err != nil {
		return err
	}
	out, code, err = t.command("check", "--quiet")
	if code == 1 || code == 0 && err != nil {
		return fmt.Errorf("check: %w", err)
	}
	t.checkCode, t.checkSaid = code, strings.TrimSpace(string(out))
	return nil
}

// again applies a second time, which must write nothing.
func (t *trial) again() error {
	out, code, err := t.command("apply", "-o", "json")
	if code != 0 {
		return nil // the first time has reported it
	}
	if err != nil {
		return err
	}
	p, err := parsePlan(out)
	if p.Writes > 0 {
		t.faults = append(t.faults, Fault{Kind: secondWrites,
			Detail: fmt.Sprintf("%d writes", p.Writes)})
	}
	return err
}

// rounds is how often to follow the flags that a plan prints: first it names a
// link, then its gateway.
const rounds = 3

// withFlags applies with the flags that the plan prints for listeners whose way
// it does not know, and then with those of the new plan, until it asks for
// nothing new. It repeats their requests.
func (t *trial) withFlags() error {
	var list []Request
	var index []int
	for i, q := range t.Requests {
		switch q.Class {
		case offLink, onLink, theRouter:
			if t.plan.asks(q.Listener) && t.wanting(q.Listener) {
				list, index = append(list, q), append(index, i)
			}
		}
	}
	flags, err := t.follow(list)
	if err != nil || len(list) == 0 {
		return err
	}
	got, err := t.ask(list)
	for k, q := range list {
		if dark := got.dark(k); err == nil && len(dark) > 0 {
			t.fault(flagFails, index[k], "%v, %s, with %v", dark,
				t.plan.row(q.Listener.Addr).Reason, flags)
		}
	}
	return err
}

// follow applies with the flags that plans print for the listeners of a list.
func (t *trial) follow(list []Request) (flags []string, err error) {
	p := t.plan
	for range rounds {
		more := flags
		for _, q := range list {
			if p.asks(q.Listener) {
				f := p.flag(q.Listener, t.router(q.Listener), more)
				more = appendFlag(more, f)
			}
		}
		if len(more) == len(flags) {
			break
		}
		flags = more
		out, code, err := t.command(append([]string{"apply", "-o", "json"}, flags...)...)
		if code != 0 {
			t.faults = append(t.faults, Fault{Kind: flagFails,
				Detail: fmt.Sprintf("apply %v: %v", flags, err)})
			return flags, nil
		}
		if p, err = parsePlan(out); err != nil {
			return flags, err
		}
	}
	return flags, nil
}

// appendFlag adds a new flag. An address is decided once; a link may have a
// router in each subnet.
func appendFlag(flags, f []string) []string {
	if f == nil {
		return flags
	}
	name, _, _ := strings.Cut(f[1], "=")
	for i := 0; i < len(flags); i += 2 {
		if flags[i] == f[0] && (flags[i+1] == f[1] || f[0] == "--address" &&
			strings.HasPrefix(flags[i+1], name+"=")) {
			return flags
		}
	}
	return append(flags, f...)
}

// wanting reports whether a client behind the listener's router got no answer.
func (t *trial) wanting(l *Listener) bool {
	for i, q := range t.Requests {
		if q.Listener == l && q.Class == offLink && len(t.after.dark(i)) > 0 {
			return true
		}
	}
	return false
}

// router returns the address of the router by which a listener's clients come.
func (t *trial) router(l *Listener) (a netip.Addr) {
	for _, q := range t.Requests {
		if q.Listener == l && q.Class == offLink {
			return q.Way.Via
		}
	}
	return a
}

// cleared clears, and compares the host with its original state.
func (t *trial) cleared(state string) error {
	var gone []string
	for _, line := range t.Host.Later {
		line = strings.TrimSuffix(line, " nodad")
		gone = append(gone, strings.Replace(line, "addr add", "addr del", 1))
	}
	if err := t.batch(host, "", gone); err != nil {
		return err
	}
	if _, code, err := t.lasthop(t.bin, t.dir, "clear"); code != 0 || err != nil {
		return fmt.Errorf("clear: %w", err)
	}
	now, err := t.snapshot()
	if e := t.batch(host, "", t.Host.Later); e != nil { // the network should be proved
		return e
	}
	if err == nil && now != state {
		t.faults = append(t.faults, Fault{Kind: notRestored,
			Detail: difference(state, now)})
	}
	return err
}

var volatile = regexp.MustCompile(` expires \d+sec`)

// snapshot returns what the host's kernel holds.
func (t *trial) snapshot() (string, error) {
	text := ""
	for _, args := range [][]string{{"-4", "rule"}, {"-6", "rule"},
		{"-4", "route", "show", "table", "all"}, {"-6", "route", "show", "table", "all"},
		{"link"}} {
		out, err := t.output(host, exec.Command("ip", append([]string{"-N"}, args...)...))
		if err != nil {
			return "", fmt.Errorf("ip %v: %w", args, err)
		}
		text += string(out)
	}
	return volatile.ReplaceAllString(text, ""), nil
}

// prove writes the expected way of each suspected request into the host by
// hand. If a request is answered then, the network is sound, and its fault
// stands.
func (t *trial) prove() error {
	var list []Request
	index := map[int]int{}
	for _, s := range t.suspects {
		if _, ok := index[s.request]; !ok && t.Requests[s.request].provable() {
			index[s.request] = len(list)
			list = append(list, t.Requests[s.request])
		}
	}
	var lines, lines6 []string
	for i, q := range list {
		if q.Listener.Addr.Is4() {
			lines = append(lines, ideal(i, q)...)
		} else {
			lines6 = append(lines6, ideal(i, q)...)
		}
	}
	if err := t.batch(host, "-4", lines); err != nil {
		return err
	}
	if err := t.batch(host, "-6", lines6); err != nil {
		return err
	}
	got, err := t.ask(list)
	if err != nil {
		return err
	}
	blamed := map[int]bool{}
	for _, s := range t.suspects {
		k, asked := index[s.request]
		switch {
		case !asked || len(got.dark(k)) == 0:
			t.faults = append(t.faults, s.Fault)
		case !blamed[k]:
			blamed[k] = true
			t.faults = append(t.faults, Fault{unsound, list[k].String(),
				t.cause(list[k]), fmt.Sprintf("%v, %s", got.dark(k), list[k].Way)})
		}
	}
	return nil
}

// provable reports whether the network defines the way of the request's reply.
func (r Request) provable() bool { return r.Class != banned && r.Class != own }

// ideal returns the lines that send one reply, and the ARP of its router, the
// expected way.
func ideal(i int, q Request) []string {
	t := strconv.Itoa(9000 + i)
	rule := func(to netip.Addr) string {
		return fmt.Sprintf("rule add pref 1 from %s to %s lookup %s", q.Listener.Addr,
			to, t)
	}
	route := func(to netip.Addr) string {
		return fmt.Sprintf("route add %s dev %s table %s", to, q.Way.Link, t)
	}
	if !q.Way.Via.IsValid() {
		return []string{rule(q.Client.Addr), route(q.Client.Addr)}
	}
	onlink := ""
	if q.Client.Addr.Is4() {
		onlink = " onlink"
	}
	lines := []string{rule(q.Client.Addr), fmt.Sprintf("route add %s via %s dev %s table %s%s",
		q.Client.Addr, q.Way.Via, q.Way.Link, t, onlink)}
	if !q.Way.Via.IsLinkLocalUnicast() {
		lines = append([]string{rule(q.Way.Via), route(q.Way.Via)}, lines...)
	}
	return lines
}

// difference returns the lines that only one of two texts has.
func difference(a, b string) string {
	dir, err := os.MkdirTemp("", "netlab")
	if err != nil {
		return err.Error()
	}
	defer os.RemoveAll(dir)
	os.WriteFile(dir+"/a", []byte(a), 0o644)
	os.WriteFile(dir+"/b", []byte(b), 0o644)
	out, _ := exec.Command("diff", dir+"/a", dir+"/b").Output()
	return string(out)
}
