package routing_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

// perConnection is the policy of the mode last-hop on links or addresses.
func perConnection(subjects ...string) routing.Policy {
	p := routing.Policy{Numbers: routing.DefaultNumbers}
	for _, s := range subjects {
		pin := routing.ReturnPin{Link: s, Mode: routing.LastHop}
		if a, err := netip.ParseAddr(s); err == nil {
			pin.Link, pin.Addr = "", a
		}
		p.Returns = append(p.Returns, pin)
	}
	return p
}

// answering is a host that can have the mode last-hop.
const answering = twoUplinks + "last-hop tag 5b2\n"

func decideOn(t *testing.T, h routing.Host, p routing.Policy,
	listeners ...routing.Listener) routing.Decision {
	t.Helper()
	d, err := routing.Decide(routing.Inputs{Host: h, Listeners: listeners, Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// applied returns the host of a decision with its plan carried out.
func applied(d routing.Decision, h routing.Host, n routing.Numbers) routing.Host {
	return routing.With(routing.Without(h, n), d.Plan.State)
}

func kindOf(o routing.Op) string {
	kind := map[bool]string{true: "del ", false: "add "}[o.Delete]
	switch {
	case o.Wanted != nil:
		return kind + "listener"
	case o.Filter != nil:
		return kind + "filter"
	case o.Route != nil:
		return kind + "route"
	case o.Rule != nil:
		return kind + "rule"
	}
	return kind + "group"
}

// TestLastHopOrder: routes come when what they ask has begun to learn, and
// filters and listeners go when no route asks any more. A failure there holds
// nothing up but their own deletions.
func TestLastHopOrder(t *testing.T) {
	h := parseHost(t, answering)
	want := planOf(t, h, listenOn("10.0.1.10"), nil, perConnection("eth1")).State
	old := routing.State{Filters: []routing.Filter{{Link: "eth7", Pref: 1, Handle: 1,
		Kind: "bpf", Name: "lasthop/5b2"}}, Wanted: []routing.Wanted{
		{Addr: netip.MustParseAddr("10.0.1.99"), Port: 1, Transport: routing.TCP}}}
	const made = "add listener, add filter, add route, add group, add rule"
	for _, tt := range []struct{ name, fail, have, want string }{
		{"make", "", "", made},
		{"break", "", "all", "del rule, del route, del group, del filter, del listener"},
		{"replace", "", "old", made + ", del filter, del listener"},
		{"no listener", "add listener", "old", "add filter, add route, add group, add rule"},
		{"no filter", "add filter", "old", "add listener, add route, add group, add rule"},
		{"no route", "add route", "old", "add listener, add filter, add group, add rule"},
		{"no rule", "add rule", "old", "add listener, add filter, add route, add group"},
		{"a route stays", "del route", "all", "del rule, del group"},
		{"a filter stays", "del filter", "all", "del rule, del route, del group"},
	} {
		d := routing.Compare(routing.State{}, want)
		switch tt.have {
		case "all":
			d = routing.Compare(want, routing.State{})
		case "old":
			d = routing.Compare(old, want)
		}
		done, _ := routing.Execute(d, func(o routing.Op) error {
			if kindOf(o) == tt.fail {
				return errors.New("refused")
			}
			return nil
		})
		var kinds []string
		for _, o := range done {
			kinds = append(kinds, kindOf(o))
		}
		if got := strings.Join(slices.Compact(kinds), ", "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestLastHopState: what the mode has in the kernel is lasthop's by its name,
// comes and goes with the other objects, and leaves foreign objects alone.
func TestLastHopState(t *testing.T) {
	h := parseHost(t, answering+"tc filter add dev eth1 ingress pref 1 bpf name other\n")
	policy, listeners := perConnection("eth1"), listenOn("10.0.1.10")
	n := policy.Numbers
	d := decideOn(t, h, policy, listeners...)
	after := applied(d, h, n)
	if diff := cmp.Diff(d.Plan.State.String(), routing.Owned(after, n).String()); diff != "" {
		t.Errorf("owned after: -want +got\n%s", diff)
	}
	if back := routing.Without(after, n); !slices.Equal(back.Filters, h.Filters) ||
		len(back.Wanted) > 0 {
		t.Errorf("without: %v, %v", back.Filters, back.Wanted)
	}
	in := routing.Inputs{Host: after, Listeners: listeners, Policy: policy}
	if !d.Holds(in) {
		t.Error("the decision does not hold for the host that it makes")
	}
	again, err := d.Renew(in)
	if err != nil || !again.Diff.Empty() {
		t.Errorf("a second sync: %v, %v", again.Diff.Ops(), err)
	}
	other := in
	other.Host.LastHop.Tag = "new"
	if d.Holds(other) {
		t.Error("the decision holds with other programs")
	}
	if e := decideOn(t, other.Host, policy, listeners...); e.Digest() == d.Digest() {
		t.Error("a plan with other programs has the same digest")
	}
	filters := routing.State{Filters: d.Plan.State.Filters}
	wanted := routing.State{Wanted: d.Plan.State.Wanted}
	if filters.Empty() || wanted.Empty() {
		t.Error("a state with filters or listeners is empty")
	}
	both := wanted.Union(filters)
	if both.String() != filters.Union(wanted).String() || !strings.Contains(both.String(),
		"tc filter add dev eth1 ingress pref 2 ") ||
		!strings.Contains(both.String(), "listener add tcp 10.0.1.10:80\n") {
		t.Errorf("union: %s", both)
	}
	moved := routing.State{Filters: slices.Clone(filters.Filters)}
	moved.Filters[0].Name = "lasthop/other"
	if got := filters.Union(moved).String(); got != filters.String() {
		t.Errorf("union of filters in one place: %s", got)
	}
}

// TestLastHopPlace: lasthop's filter stays where it is except for a place that
// another program shares; a new one takes the lowest that is free. No foreign
// filter is written over.
func TestLastHopPlace(t *testing.T) {
	const own = "tc filter add dev eth1 ingress pref %d bpf name lasthop/old\n"
	const other = "tc filter add dev eth1 ingress pref %d matchall\n"
	for _, tt := range []struct {
		name   string
		lines  string
		pref   uint16
		delete int
	}{
		{"alone", "", 1, 0},
		{"other filters behind", fmt.Sprintf(other, 2), 1, 0},
		{"other filters in front", fmt.Sprintf(other+other, 1, 2), 3, 0},
		{"a gap", fmt.Sprintf(other+other, 1, 3), 2, 0},
		{"where it is", fmt.Sprintf(own, 5), 5, 0},
		{"where it is, other filters in front", fmt.Sprintf(other+own, 1, 5), 5, 0},
		{"one for both", fmt.Sprintf(other+own, 1, 1), 2, 1},
		{"with other maps", strings.Replace(fmt.Sprintf(own, 1), "old", "old.2", 1), 2, 1},
		{"two of lasthop", fmt.Sprintf(own+own, 4, 6), 4, 1},
		{"on another link", "tc filter add dev eth0 ingress pref 1 matchall\n", 1, 0},
		{"tcx", "tc filter add dev eth1 ingress tcx name x\n", 1, 0},
	} {
		h := parseHost(t, answering+tt.lines)
		d := decideOn(t, h, perConnection("eth1"), listenOn("10.0.1.10")...)
		i := slices.IndexFunc(d.Plan.State.Filters,
			func(f routing.Filter) bool { return f.Link == "eth1" })
		if i < 0 || d.Plan.State.Filters[i].Pref != tt.pref ||
			len(d.Diff.DelFilters) != tt.delete {
			t.Errorf("%s: %v, deleted %v", tt.name, d.Plan.State.Filters,
				d.Diff.DelFilters)
		}
		for _, f := range d.Diff.SetFilters {
			for _, x := range h.Filters {
				if x.Link == f.Link && x.Pref == f.Pref && x.Handle == f.Handle &&
					!x.Owned() {
					t.Errorf("%s: %s is written over", tt.name, x)
				}
			}
		}
	}
}

// TestLastHopUnread: a user that cannot see whether the mode is available plans
// it nevertheless, with the programs that are installed, and misses no listener
// of a map that the user may not read.
func TestLastHopUnread(t *testing.T) {
	h := parseHost(t, answering)
	policy, listeners := perConnection("eth1"), listenOn("10.0.1.10")
	known := decideOn(t, h, policy, listeners...)
	if known.Unread() {
		t.Error("what root plans is not read")
	}
	installed := applied(known, h, policy.Numbers)
	for _, tt := range []struct {
		name string
		host routing.Host
		tag  string
		ops  bool
	}{
		{"nothing installed", h, "lasthop/TAG", true},
		{"installed", installed, "lasthop/5b2", false},
	} {
		tt.host.LastHop, tt.host.Wanted = routing.LastHopSupport{}, nil
		d := decideOn(t, tt.host, policy, listeners...)
		if !d.Unread() || has(d.Plan, "no-bpf") || d.Plan.State.Filters[0].Name != tt.tag ||
			d.Diff.Empty() == tt.ops {
			t.Errorf("%s: unread %v, %v\n%s", tt.name, d.Unread(), d.Diff.Ops(),
				d.Plan.State)
		}
	}
}

func has(p routing.Plan, code routing.Code) bool {
	return slices.ContainsFunc(p.Findings,
		func(f routing.Finding) bool { return f.Code == code })
}

// TestLastHopTooMany: more listeners than the map takes have the mode strict.
// Two listeners at one address share its resets and echo replies.
func TestLastHopTooMany(t *testing.T) {
	h := parseHost(t, answering)
	range80 := func(last uint16) []routing.Listener {
		l := listenOn("10.0.1.10", "10.0.1.10")
		l[0].Ports = routing.PortRange{First: 1, Last: last}
		l[1].Transport = routing.UDP
		return l
	}
	for _, tt := range []struct {
		last uint16
		fits bool
	}{{65533, true}, {65534, false}, {65535, false}} {
		p := planOf(t, h, range80(tt.last), nil, perConnection("eth1"))
		wanted := map[bool]int{true: 65536}[tt.fits]
		if p.FellBack() == tt.fits || len(p.State.Filters) > 0 != tt.fits ||
			len(p.State.Wanted) != wanted {
			t.Errorf("ports up to %d: fell back %v, %d filters, %d listeners", tt.last,
				p.FellBack(), len(p.State.Filters), len(p.State.Wanted))
		}
		if p.Outcomes[0].After.Link != "eth1" || p.Outcomes[0].After.LastHop != tt.fits {
			t.Errorf("ports up to %d: %s", tt.last, p.Outcomes[0].After)
		}
	}
}

// TestLastHopCandidates: a candidate in the table of one path is no gateway of
// its own link, held or kept, and its table is not another path's.
func TestLastHopCandidates(t *testing.T) {
	h := parseHost(t, answering)
	policy := perConnection("eth1")
	d := decideOn(t, h, policy, listenOn("10.0.1.10")...)
	installed := applied(d, h, policy.Numbers)
	table := d.Plan.Paths[0].Table

	gone := installed
	gone.Routes = slices.DeleteFunc(slices.Clone(gone.Routes), func(r routing.Route) bool {
		return r.Table == routing.TableMain && r.IsDefault() && r.Hops[0].Link == "eth0"
	})
	p := planOf(t, gone, listenOn("10.0.1.10"), nil, policy)
	if has(p, "held-gateway") || strings.Contains(p.State.String(), "dev eth0 table") {
		t.Errorf("eth0 without its default is a way still:\n%s", p.State)
	}
	// eth0 needs a path as soon as main's best default is another's
	other := installed
	other.Routes = slices.Clone(other.Routes)
	for i, r := range other.Routes {
		if r.Table == routing.TableMain && r.IsDefault() && r.Hops[0].Link == "eth0" {
			other.Routes[i].Metric = 300
		}
	}
	p = planOf(t, other, listenOn("10.0.0.10", "10.0.1.10"), nil, policy)
	for _, path := range p.Paths {
		if (path.Link == "eth1") != (path.Table == table) || path.Table == 0 {
			t.Errorf("%s has table %d, and eth1's was %d", path.Link, path.Table, table)
		}
	}
	serving := d.Plan.State.Serving("eth0", routing.IPv4)
	if !serving.Empty() {
		t.Errorf("eth1's path serves eth0:\n%s", serving)
	}
}

// TestLastHopHeld: a path that is kept when nothing names it any more is that
// of its own gateway: the candidates are none.
func TestLastHopHeld(t *testing.T) {
	h := parseHost(t, `
		last-hop tag 5b2
		link add eth0 type veth
		link add eth1 type veth
		link set eth0 up
		link set eth1 up
		addr add 2001:db8::10/64 dev eth0
		addr add 2001:db8:1::10/64 dev eth1
		addr add 2001:db8:9::7/128 dev lo
		-6 route add default via 2001:db8::1 dev eth0
		-6 route add default via 2001:db8:1::1 dev eth1 metric 2000
	`)
	policy, listeners := perConnection("2001:db8:9::7"), listenOn("2001:db8:9::7")
	d := decideOn(t, h, policy, listeners...)
	if got := strings.Count(d.Plan.State.String(), "default encap"); got != 2 {
		t.Fatalf("%d defaults:\n%s", got, d.Plan.State)
	}
	installed := applied(d, h, policy.Numbers)
	p := planOf(t, installed, listeners, nil, plain)
	for _, path := range p.Paths {
		if len(path.Gateways()) != 1 || path.Link != "eth0" || path.LastHop {
			t.Errorf("%+v", path)
		}
	}
	if !has(p, "held-path") || len(p.State.Filters) > 0 {
		t.Errorf("%v\n%s", p.Findings, p.State)
	}
	for i, l := range installed.Links {
		installed.Links[i].Up = l.Name != "eth0"
	}
	installed.Routes = slices.DeleteFunc(installed.Routes, func(r routing.Route) bool {
		return len(r.Hops) > 0 && r.Hops[0].Link == "eth0"
	})
	if p := planOf(t, installed, listeners, nil, plain); !has(p, "address-on-lo") {
		t.Errorf("without eth0: %v", p.Findings)
	}
}

// TestLastHopEverywhere: if nothing says which way requests come, the mode is
// enough; a setting for no way, or another way, still counts.
func TestLastHopEverywhere(t *testing.T) {
	const lo = "addr add 192.0.2.7/32 dev lo\n"
	const lan = "link add eth2 type veth\nlink set eth2 up\naddr add 10.0.2.10/24 dev eth2\n"
	const vmac = "link add vrrp.51 type macvlan link eth1\nlink set vrrp.51 up\n" +
		"addr add 10.0.1.100/32 dev vrrp.51\n"
	const all = "eth0, eth1"
	for _, tt := range []struct {
		name, lines, addr, by string
		status                routing.Status
		filters               string
	}{
		{"on lo", lo, "192.0.2.7", "192.0.2.7", routing.Ready, all},
		{"all of lo", lo, "192.0.2.7", "lo", routing.Ready, all},
		{"on lo, not asked for", lo, "192.0.2.7", "eth1", routing.Unresolved, ""},
		{"not here", "", "192.0.2.7", "192.0.2.7", routing.Armed, all},
		{"on a LAN without a gateway", lan, "10.0.2.10", "eth2", routing.Ready, "eth0, eth1, eth2"},
		{"on a bridge of containers", "", "172.17.0.1", "172.17.0.1", routing.LocalOnly, ""},
		{"on the macvlan of a VRRP", vmac, "10.0.1.100", "10.0.1.100", routing.Ready, "eth0, eth1, vrrp.51"},
		{"switched off", lo, "192.0.2.7", "off", routing.Off, ""},
	} {
		policy := perConnection(tt.by)
		if tt.by == "off" {
			policy.Returns = []routing.ReturnPin{{Link: "lo", Mode: routing.NoReturn}}
		}
		p := planOf(t, parseHost(t, answering+tt.lines), listenOn(tt.addr), nil, policy)
		var filters []string
		for _, f := range p.State.Filters {
			filters = append(filters, f.Link)
		}
		if p.Outcomes[0].Status != tt.status || strings.Join(filters, ", ") != tt.filters ||
			tt.filters != "" && !p.Outcomes[0].After.LastHop {
			t.Errorf("%s: %s, %s, filters %v", tt.name, p.Outcomes[0].Status,
				p.Outcomes[0].After, filters)
		}
		if tt.status != routing.Unresolved && len(p.Findings) > 1 {
			t.Errorf("%s: %v", tt.name, p.Findings)
		}
	}
}

// TestLastHopOwn: the host's own connections are never learned, so those from a
// listener's address change only if the fallback does.
func TestLastHopOwn(t *testing.T) {
	const src = "route add 10.77.0.0/16 src 10.0.0.10 nexthop via 10.0.0.3 dev eth0 weight 1 " +
		"nexthop via 10.0.0.4 dev eth0 weight 1\n"
	vip, far := netip.MustParseAddr("10.0.0.10"), netip.MustParseAddr("198.51.100.1")
	h := parseHost(t, answering+src)
	in := routing.Inputs{Host: h, Listeners: listenOn("10.0.0.10"),
		Binds: []routing.Bind{{Addr: vip}}, Policy: perConnection("eth0")}
	d, err := routing.Decide(in)
	if err != nil {
		t.Fatal(err)
	}
	sessions := []routing.SessionGroup{{Local: vip, Remote: far, Count: 3}}
	if moves := routing.MovesEstablished(in, d, sessions); d.Diff.Empty() || len(moves) > 0 ||
		len(d.Plan.Findings) > 0 {
		t.Errorf("%v, %v", moves, d.Plan.Findings)
	}
	trace := routing.Lookup(applied(d, h, in.Policy.Numbers), routing.Query{Src: vip, Dst: far})
	plain := trace.Way
	plain.LastHop = false
	if !trace.Way.LastHop || !trace.Agrees(plain) || !trace.Agrees(trace.Way) {
		t.Errorf("%s: a kernel that does not tell programs contradicts it", trace.Way)
	}
}

// TestLastHopFib: a rule of nftables that looks the source up is as strict as
// rp_filter, as far as can be seen; a table with one way alone has nothing to
// fear.
func TestLastHopFib(t *testing.T) {
	const fib = "ruleset IPv4 inet fw prerouting handle 2: fib saddr\n"
	for _, forwards := range []string{"", "sysctl net.ipv4.ip_forward=1\n"} {
		p := planOf(t, parseHost(t, answering+forwards+fib), listenOn("10.0.1.10"), nil,
			perConnection("eth1"))
		if !has(p, "rp-filter-strict") || has(p, "exact-cover") != (forwards != "") {
			t.Errorf("%s%v", forwards, p.Findings)
		}
	}
	const one = "link add eth0 type veth\nlink set eth0 up\naddr add 10.0.0.10/24 dev eth0\n" +
		"route add default via 10.0.0.1 dev eth0\nlast-hop tag 5b2\n" +
		"sysctl net.ipv4.conf.eth0.rp_filter=1\n"
	p := planOf(t, parseHost(t, one+fib), listenOn("10.0.0.10"), nil, perConnection("eth0"))
	if has(p, "rp-filter-strict") || len(p.State.Filters) != 1 {
		t.Errorf("one uplink: %v\n%s", p.Findings, p.State)
	}
}

// TestLastHopMarked: a reply by the fallback is right, and so are replies that
// a connmark keeps on the path's router; no finding says otherwise.
func TestLastHopMarked(t *testing.T) {
	const connmark = "route add 10.0.1.0/24 dev eth1 table 55\n" +
		"route add default via 10.0.1.1 dev eth1 table 55\n" +
		"rule add pref 90 fwmark 0x1 lookup 55\n"
	for _, tt := range []struct {
		name, lines, via string
		wrong            bool
	}{
		{"the fallback", "", "10.0.1.1", false},
		{"another router", "", "10.0.1.9", true},
		{"marked", connmark, "10.0.1.9", false},
	} {
		in := routing.Inputs{Host: parseHost(t, answering+tt.lines),
			Listeners: listenOn("10.0.1.10"), Policy: perConnection("eth1")}
		d, j, err := routing.Consider(in)
		if err != nil {
			t.Fatal(err)
		}
		if has(d.Plan, "marked-replies") || len(d.Plan.State.Filters) == 0 {
			t.Errorf("%s: %v\n%s", tt.name, d.Plan.Findings, d.Plan.State)
		}
		o, client := d.Plan.Outcomes[0], netip.MustParseAddr("10.0.0.50")
		now := routing.Way{Type: routing.Unicast, Table: 55, Link: "eth1",
			Via: netip.MustParseAddr(tt.via)}
		_, wrong := j.Wrong(o, routing.Query{Src: o.Addr, Dst: client}, now)
		if wrong != tt.wrong {
			t.Errorf("%s: wrong is %v", tt.name, wrong)
		}
	}
}

// TestUnknownLinks: a setting of a link that is not here gives a finding; a
// setting of an address, of a link that is here, or of all links does not.
func TestUnknownLinks(t *testing.T) {
	p := perConnection("eth1", "eth8", "10.0.1.10")
	p.Gateways = []routing.GatewayPin{{Link: "eth7", None: true}}
	p.FailClosed = []string{"*", "eth1", "eth9"}
	p.Addresses = []routing.AddressPin{{Addr: netip.MustParseAddr("10.0.1.10"), Link: "eth6"}}
	plan := planOf(t, parseHost(t, answering), listenOn("10.0.1.10"), nil, p)
	var got []string
	for _, f := range plan.Findings {
		if f.Code == "unknown-link" {
			got = append(got, f.Message)
		}
	}
	want := []string{"address 10.0.1.10 names the interface eth6, which does not exist here",
		"gateway none names the interface eth7, which does not exist here",
		"return last-hop names the interface eth8, which does not exist here",
		"fail closed names the interface eth9, which does not exist here"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error("-want +got\n" + d)
	}
}

// TestUnknownAddresses: a setting of an address that is nowhere gives a
// finding; one of a listener that is not here now, or of an address of this
// host, does not. On the standby of a pair a wildcard may wait for it.
func TestUnknownAddresses(t *testing.T) {
	p := perConnection("10.0.1.10", "10.0.1.11", "10.0.0.10", "10.0.1.99")
	p.Addresses = []routing.AddressPin{{Addr: netip.MustParseAddr("2001:db8::9"), Link: "eth1"},
		{Addr: netip.MustParseAddr("10.0.1.11"), Link: "eth1"}}
	none := ", which no listener names and which this host does not have"
	for more, tail := range map[string]string{
		"10.0.1.10": "warning: return last-hop is for 10.0.1.99" + none,
		"0.0.0.0": "info: return last-hop is for 10.0.1.99, which this host does not have now; " +
			"the wildcard listener covers it once the host has it"} {
		listeners := listenOn("10.0.1.10", "10.0.1.11", more)
		plan := planOf(t, parseHost(t, answering), listeners, nil, p)
		var got []string
		for _, f := range plan.Findings {
			if f.Code == "unknown-address" {
				got = append(got, string(f.Severity)+": "+f.Message)
			}
		}
		want := []string{"warning: address 2001:db8::9=eth1 is for 2001:db8::9" + none, tail}
		slices.Sort(got)
		slices.Sort(want)
		if d := cmp.Diff(want, got); d != "" {
			t.Error(more + ": -want +got\n" + d)
		}
	}
}

// TestLastHopLAN: hosts of a router's own subnet ask for an address outside of
// it through the router, so that their replies go back to it, too. An address
// in the subnet they ask directly.
func TestLastHopLAN(t *testing.T) {
	h := parseHost(t, answering+"addr add 192.0.2.7/32 dev lo\n"+
		"addr add 192.0.2.8/32 dev eth1\n")
	host := netip.MustParseAddr("10.0.1.50")
	for vip, want := range map[string]bool{"192.0.2.7": true, "192.0.2.8": true,
		"10.0.1.10": false} {
		d := decideOn(t, h, perConnection(vip), listenOn(vip)...)
		way := routing.Lookup(applied(d, h, routing.DefaultNumbers),
			routing.Query{Src: netip.MustParseAddr(vip), Dst: host}).Way
		if way.LastHop != want || way.Link != "eth1" {
			t.Errorf("from %s to %s: %v", vip, host, way)
		}
	}
}
