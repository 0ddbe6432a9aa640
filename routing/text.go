package routing

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// This file is iproute2's syntax, both ways. Printed text is close to what `ip
// rule` and `ip route` show, and `ip … add` accepts it. The parser reads this
// text, and what `ip -N -d rule` and `ip -N -d route show table all` print.

// Names that every version of iproute2 has built in. Other numbers are printed
// as numbers: a name from rt_tables or rt_protos of this machine may mean
// something else on another machine.
var (
	tableNames = names[uint32]{0: "unspec", TableDefault: "default", TableMain: "main",
		TableLocal: "local"}
	protocolNames = names[uint8]{0: "unspec", 2: "kernel", 3: "boot", 4: "static", 9: "ra",
		11: "zebra", 12: "bird", 16: "dhcp"}
	scopeNames = names[uint8]{ScopeGlobal: "global", 200: "site", ScopeLink: "link",
		ScopeHost: "host", 255: "nowhere"}
	typeNames = names[RouteType]{Unicast: "unicast", Local: "local", Broadcast: "broadcast",
		Anycast:   "anycast",
		Multicast: "multicast", Blackhole: "blackhole", Unreachable: "unreachable",
		Prohibit: "prohibit", Throw: "throw"}
	actionNames = names[Action]{Nop: "nop", RejectBlackhole: "blackhole",
		RejectUnreachable: "unreachable", RejectProhibit: "prohibit"}
	prefNames = names[int8]{-1: "low", 0: "medium", 1: "high"}

	// moreProtocols are names that `ip` shows if its rt_protos file has
	// them.
	moreProtocols = map[string]uint8{"redirect": 1, "gated": 8, "mrt": 10, "dnrouted": 13,
		"xorp": 14, "ntk": 15, "mrouted": 17,
		"keepalived": 18, "babel": 42, "openr": 99, "bgp": 186, "isis": 187, "ospf": 188,
		"rip": 189, "eigrp": 192}
)

const (
	// what `ip route add` writes if no protocol is given; a rule gets 0
	protocolBoot uint8 = 3
	// the kernel's metric of an IPv6 route that a program adds with metric
	// 0
	addedMetric uint32 = 1024
)

// names maps numbers to iproute2's words.
type names[T ~uint8 | ~int8 | ~uint32] map[T]string

func (n names[T]) print(v T) string {
	if s, ok := n[v]; ok {
		return s
	}
	return strconv.FormatInt(int64(v), 10)
}

func (n names[T]) parse(s string) (T, bool) {
	for v, name := range n {
		if name == s {
			return v, true
		}
	}
	v, err := strconv.ParseUint(s, 0, 32)
	return T(v), err == nil && uint64(T(v)) == v
}

// words are those of an `ip` line.
type words []string

// add adds words if the condition holds.
func (w *words) add(said bool, more ...string) {
	if said {
		*w = append(*w, more...)
	}
}

// String returns the rule as `ip rule` prints it: "5102:\tfrom 10.0.1.0/24 iif
// lo lookup 20123 proto 76".
func (r Rule) String() string {
	w := r.words()
	w.add(r.Protocol != 0, "proto", protocolNames.print(r.Protocol))
	text := strings.Join(w, " ")
	if rest, ok := strings.CutSuffix(r.Opaque, l3mdev); ok {
		text = strings.Replace(text, r.Opaque, rest+"lookup [l3mdev-table]", 1)
	}
	return strconv.Itoa(r.Priority) + ":\t" + text
}

// Args returns the rule as arguments of `ip rule add` and `ip rule del`:
// "pref 5102 from 10.0.1.0/24 iif lo lookup 20123 protocol 76".
func (r Rule) Args() string {
	w := append(words{"pref", strconv.Itoa(r.Priority)}, r.words()...)
	w.add(r.Protocol != 0, "protocol", protocolNames.print(r.Protocol))
	return strings.Join(w, " ")
}

// l3mdev is the selector of VRF rules; `ip rule` shows it as a table. In
// Rule.Opaque it comes last.
const l3mdev = "l3mdev"

// words are the rule's selectors and its action, in the order in which `ip
// rule` prints them.
func (r Rule) words() (w words) {
	w.add(r.Not, "not")
	w.add(true, "from", selector(r.From))
	w.add(r.To.IsValid(), "to", selector(r.To))
	w.add(r.Mark != 0 || r.Mask != 0, "fwmark", mark(r.Mark, r.Mask))
	w.add(r.IIF != "", "iif", r.IIF)
	w.add(r.OIF != "", "oif", r.OIF)
	w.add(r.Opaque != "", r.Opaque)
	w.add(r.Table != 0, "lookup", tableNames.print(r.Table))
	w.add(r.SuppressPrefix != None, "suppress_prefixlength", strconv.Itoa(r.SuppressPrefix))
	w.add(r.SuppressGroup != None, "suppress_ifgroup", strconv.Itoa(r.SuppressGroup))
	switch r.Action {
	case ToTable:
	case Goto:
		w.add(true, "goto", strconv.Itoa(r.Goto))
	default:
		w.add(true, actionNames.print(r.Action))
	}
	return w
}

func selector(p netip.Prefix) string {
	if !p.IsValid() {
		return "all"
	}
	return destination(p)
}

func destination(p netip.Prefix) string {
	switch {
	case p.Bits() == 0:
		return "default"
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}

func mark(mark, mask uint32) string {
	if mask == 0xffffffff {
		return fmt.Sprintf("%#x", mark)
	}
	return fmt.Sprintf("%#x/%#x", mark, mask)
}

// String returns the route as arguments of `ip route add` and `ip route
// replace`, in the order in which `ip route` shows them: "default via 10.0.1.1
// dev eth1 table 20123 proto 76 onlink". It leaves out what `ip route add`
// supplies by itself, and volatile flags.
func (r Route) String() string {
	w := r.goal()
	single := len(r.Hops) == 1
	if single {
		w.hop(r, r.Hops[0])
	}
	w.add(r.Table != tableOf(r.Type), "table", tableNames.print(r.Table))
	w.add(r.Protocol != protocolBoot, "proto", protocolNames.print(r.Protocol))
	w.add(r.Scope != ScopeGlobal || r.Scope != scopeOf(r), "scope", scopeNames.print(r.Scope))
	w.add(r.Src.IsValid(), "src", r.Src.String())
	w.add(r.Metric != metricOf(r.Family()), "metric", fmt.Sprint(r.Metric))
	w.add(r.MTU != 0, "mtu", fmt.Sprint(r.MTU))
	w.add(r.AdvMSS != 0, "advmss", fmt.Sprint(r.AdvMSS))
	w.add(r.Pref != 0, "pref", prefNames.print(r.Pref))
	w.add(single && r.Hops[0].OnLink, "onlink")
	// `ip route add` locks rto_min by itself, and has no word for the lock
	w.add(r.Opaque != "", strings.Replace(r.Opaque, "rto_min lock", "rto_min", 1))
	if len(r.Hops) > 1 {
		for _, h := range r.Hops {
			w.add(true, "nexthop")
			w.hop(r, h)
			w.add(true, "weight", strconv.Itoa(h.Weight))
			w.add(h.OnLink, "onlink")
		}
	}
	return strings.Join(w, " ")
}

// goal is the beginning of an `ip` line of the route: its type and destination.
func (r Route) goal() (w words) {
	w.add(r.Type != Unicast, typeNames.print(r.Type))
	w.add(true, destination(r.Dst))
	return w
}

// hop adds where a next hop of a route leads.
func (w *words) hop(r Route, h Hop) {
	w.add(r.Encap != "", "encap", "bpf", "xmit", r.Encap)
	w.add(h.Via.IsValid(), "via")
	w.add(h.Via.IsValid() && FamilyOf(h.Via) != r.Family(), "inet6")
	w.add(h.Via.IsValid(), h.Via.String())
	w.add(true, "dev", h.Link)
}

// tableOf, scopeOf and metricOf are the values that iproute2 and the kernel
// supply if none is given (iproute_modify in ip/iproute.c).
func tableOf(t RouteType) uint32 {
	if t == Local || t == Broadcast || t == Anycast {
		return TableLocal
	}
	return TableMain
}

func scopeOf(r Route) uint8 {
	switch {
	case r.Family() == IPv6:
		return ScopeGlobal
	case r.Type == Local:
		return ScopeHost
	case r.Type == Broadcast, r.Type == Multicast, r.Type == Anycast:
		return ScopeLink
	case r.Type == Unicast && len(r.Hops) == 1 && !r.Hops[0].Via.IsValid():
		return ScopeLink
	}
	return ScopeGlobal
}

func metricOf(f Family) uint32 {
	if f == IPv6 {
		return addedMetric
	}
	return 0
}

// String returns "eth1 group 76".
func (g LinkGroup) String() string { return g.Link + " group " + strconv.Itoa(g.Group) }

// String returns the write as a command: "ip rule add …", "ip -6 route replace
// …", "ip link set dev eth1 group 76".
func (o Op) String() string {
	add, replace := " add ", " replace "
	switch {
	case o.Delete:
		add, replace = " del ", " del "
	case o.Append:
		replace = " append "
	}
	switch {
	case o.Wanted != nil:
		return "last-hop listener" + add + o.Wanted.String()
	case o.Filter != nil && o.Delete:
		return "tc filter del " + o.Filter.deletion()
	case o.Filter != nil:
		return "tc filter add " + o.Filter.String()
	case o.Route != nil && o.Delete:
		plain := *o.Route
		// the kernel needs no program to delete a route, and `ip` reads
		// programs only from files
		plain.Encap = ""
		return ip(plain.Family()) + " route del " + plain.String()
	case o.Rule != nil:
		return ip(o.Rule.Family) + " rule" + add + o.Rule.Args()
	case o.Route != nil:
		return ip(o.Route.Family()) + " route" + replace + o.Route.String()
	case o.Group != nil && o.Delete:
		return "ip link set dev " + LinkGroup{Link: o.Group.Link}.String()
	case o.Group != nil:
		return "ip link set dev " + o.Group.String()
	}
	return "nothing"
}

// deletion returns the command that deletes the rule.
func (r Rule) deletion() string { return Command(ip(r.Family) + " rule del " + r.Args()) }

// linkDefault returns the command that takes a link out of its group.
func linkDefault(link string) string {
	return Command("ip link set dev " + link + " group default")
}

// Command returns the write as a command line for sh, quoted for any name of a
// link.
func (o Op) Command() string { return Command(o.String()) }

// ip returns the command of a family.
func ip(f Family) string {
	if f == IPv6 {
		return "ip -6"
	}
	return "ip"
}

// String returns the commands that make the state, one a line, in its canonical
// order: listeners, filters, groups, routes, rules.
func (s State) String() string {
	s = State{slices.Clone(s.Routes), slices.Clone(s.Rules), slices.Clone(s.Groups),
		slices.Clone(s.Filters), slices.Clone(s.Wanted)}
	s.Sort()
	var b strings.Builder
	routes := opsOf(s.Routes, false)
	for i := range routes {
		routes[i].Append = i > 0 && s.Routes[i].RouteKey == s.Routes[i-1].RouteKey &&
			s.Routes[i].IsDefault() && s.Routes[i].Family() == IPv4
	}
	for _, op := range slices.Concat(opsOf(s.Wanted, false), opsOf(s.Filters, false),
		opsOf(s.Groups, false), routes, opsOf(s.Rules, false)) {
		fmt.Fprintln(&b, op)
	}
	return b.String()
}
