package routing

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// This file is iproute2's syntax, both ways. What is printed is close to what
// `ip rule` and `ip route` show and is accepted by `ip … add`; what is parsed
// is that, and what `ip -N -d rule` and `ip -N -d route show table all` print.

// Names that every version of iproute2 has built in. Other numbers are printed
// as numbers: a name from rt_tables or rt_protos of this machine means nothing
// on the next one.
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

	// moreProtocols are names that `ip` shows where its rt_protos file has
	// them.
	moreProtocols = map[string]uint8{"redirect": 1, "gated": 8, "mrt": 10, "dnrouted": 13,
		"xorp": 14, "ntk": 15, "mrouted": 17,
		"keepalived": 18, "babel": 42, "openr": 99, "bgp": 186, "isis": 187, "ospf": 188,
		"rip": 189, "eigrp": 192}
)

const (
	// what `ip route add` writes where no protocol is given; a rule gets 0
	protocolBoot uint8 = 3
	// what the kernel makes of metric 0 of an IPv6 route that a program
	// adds
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

// String returns the rule as `ip rule` prints it: "5102:\tfrom 10.0.1.0/24 iif
// lo lookup 20123 proto 76".
func (r Rule) String() string {
	w := r.words()
	if r.Protocol != 0 {
		w = append(w, "proto", protocolNames.print(r.Protocol))
	}
	text := strings.Join(w, " ")
	if rest, ok := strings.CutSuffix(r.Opaque, l3mdev); ok {
		text = strings.Replace(text, r.Opaque, rest+"lookup [l3mdev-table]", 1)
	}
	return strconv.Itoa(r.Priority) + ":\t" + text
}

// Args returns the rule as arguments of `ip rule add` and `ip rule del`:
// "pref 5102 from 10.0.1.0/24 iif lo lookup 20123 protocol 76".
func (r Rule) Args() string {
	w := append([]string{"pref", strconv.Itoa(r.Priority)}, r.words()...)
	if r.Protocol != 0 {
		w = append(w, "protocol", protocolNames.print(r.Protocol))
	}
	return strings.Join(w, " ")
}

// l3mdev is the selector of VRF rules; `ip rule` shows it as a table. In
// Rule.Opaque it comes last.
const l3mdev = "l3mdev"

// words are the rule's selectors and its action, in the order in which `ip
// rule` prints them.
func (r Rule) words() []string {
	var w []string
	if r.Not {
		w = append(w, "not")
	}
	w = append(w, "from", selector(r.From))
	if r.To.IsValid() {
		w = append(w, "to", selector(r.To))
	}
	if r.Mark != 0 || r.Mask != 0 {
		w = append(w, "fwmark", mark(r.Mark, r.Mask))
	}
	if r.IIF != "" {
		w = append(w, "iif", r.IIF)
	}
	if r.OIF != "" {
		w = append(w, "oif", r.OIF)
	}
	if r.Opaque != "" {
		w = append(w, r.Opaque)
	}
	if r.Table != 0 {
		w = append(w, "lookup", tableNames.print(r.Table))
	}
	if r.SuppressPrefix != None {
		w = append(w, "suppress_prefixlength", strconv.Itoa(r.SuppressPrefix))
	}
	if r.SuppressGroup != None {
		w = append(w, "suppress_ifgroup", strconv.Itoa(r.SuppressGroup))
	}
	switch r.Action {
	case ToTable:
	case Goto:
		w = append(w, "goto", strconv.Itoa(r.Goto))
	default:
		w = append(w, actionNames.print(r.Action))
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
// dev eth1 table 20123 proto 76 onlink". What `ip route add` supplies by itself
// is left out, and so are volatile flags.
func (r Route) String() string {
	var w []string
	if r.Type != Unicast {
		w = append(w, typeNames.print(r.Type))
	}
	w = append(w, destination(r.Dst))
	if len(r.Hops) == 1 {
		w = append(w, r.hop(r.Hops[0])...)
	}
	w = append(w, r.attributes()...)
	if len(r.Hops) == 1 && r.Hops[0].OnLink {
		w = append(w, "onlink")
	}
	if r.Opaque != "" {
		w = append(w, r.Opaque)
	}
	if len(r.Hops) > 1 {
		for _, h := range r.Hops {
			w = append(append(w, "nexthop"), r.hop(h)...)
			w = append(w, "weight", strconv.Itoa(h.Weight))
			if h.OnLink {
				w = append(w, "onlink")
			}
		}
	}
	return strings.Join(w, " ")
}

func (r Route) hop(h Hop) []string {
	var w []string
	switch {
	case h.Via.IsValid() && FamilyOf(h.Via) != r.Family():
		w = append(w, "via", "inet6", h.Via.String())
	case h.Via.IsValid():
		w = append(w, "via", h.Via.String())
	}
	return append(w, "dev", h.Link)
}

func (r Route) attributes() []string {
	var w []string
	if r.Table != tableOf(r.Type) {
		w = append(w, "table", tableNames.print(r.Table))
	}
	if r.Protocol != protocolBoot {
		w = append(w, "proto", protocolNames.print(r.Protocol))
	}
	if r.Scope != ScopeGlobal || r.Scope != scopeOf(r) {
		w = append(w, "scope", scopeNames.print(r.Scope))
	}
	if r.Src.IsValid() {
		w = append(w, "src", r.Src.String())
	}
	if r.Metric != metricOf(r.Family()) {
		w = append(w, "metric", strconv.FormatUint(uint64(r.Metric), 10))
	}
	if r.MTU != 0 {
		w = append(w, "mtu", strconv.FormatUint(uint64(r.MTU), 10))
	}
	if r.AdvMSS != 0 {
		w = append(w, "advmss", strconv.FormatUint(uint64(r.AdvMSS), 10))
	}
	if r.Pref != 0 {
		w = append(w, "pref", prefNames.print(r.Pref))
	}
	return w
}

// tableOf, scopeOf and metricOf are what iproute2 and the kernel supply where
// nothing is said (iproute_modify in ip/iproute.c).
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
	switch {
	case o.Rule != nil && o.Delete:
		return command(o.Rule.Family, "rule del", o.Rule.Args())
	case o.Rule != nil:
		return command(o.Rule.Family, "rule add", o.Rule.Args())
	case o.Route != nil && o.Delete:
		return command(o.Route.Family(), "route del", o.Route.String())
	case o.Route != nil:
		return command(o.Route.Family(), "route replace", o.Route.String())
	case o.Group != nil && o.Delete:
		return "ip link set dev " + LinkGroup{Link: o.Group.Link}.String()
	case o.Group != nil:
		return "ip link set dev " + o.Group.String()
	}
	return "nothing"
}

func command(f Family, verb, args string) string {
	if f == IPv6 {
		return "ip -6 " + verb + " " + args
	}
	return "ip " + verb + " " + args
}

// String returns the commands that make the state, one a line, in its canonical
// order: groups, routes, rules.
func (s State) String() string {
	s = State{slices.Clone(s.Routes), slices.Clone(s.Rules), slices.Clone(s.Groups)}
	s.Sort()
	var b strings.Builder
	for i := range s.Groups {
		fmt.Fprintln(&b, Op{Group: &s.Groups[i]})
	}
	for i := range s.Routes {
		fmt.Fprintln(&b, Op{Route: &s.Routes[i]})
	}
	for i := range s.Rules {
		fmt.Fprintln(&b, Op{Rule: &s.Rules[i]})
	}
	return b.String()
}
