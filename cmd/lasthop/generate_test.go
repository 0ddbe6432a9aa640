package main_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
)

// The features that at least a fifth of the random hosts have, each.
var allFeatures = []string{"several uplinks", "shared subnets", "overlapping subnets",
	"several gateways per link", "bridges", "unnumbered links", "tunnels", "static routes",
	"multipath", "bans", "foreign rules with selectors", "foreign rules without selectors",
	"/32 VIPs", "wildcards", "binds", "both families", "gateways in other tables",
	"absent VIPs", "link groups", "policy", "rules by oif", "rules by iif", "rules by mask",
	"inverted rules", "goto chains", "gotos to nowhere", "rules that do nothing",
	"rules with suppress_ifgroup", "rules with suppress_prefixlength", "rules that reject", "tables of several rules", "reject routes in own tables", "several metrics", "defaults of one metric",
	"marks", "source-specific routes", "metrics of transports", "deliberate rules",
	"rules with ports, users, tos", "catch-all tables with more than a default",
	"private IPv6 routes", "nested subnets of one link", "connected routes of managers"}

// generator makes the lines of one random host. Its links are eth0 to eth7,
// docker0, cali0 and tun0.
type generator struct {
	*rand.Rand
	seed     uint64
	lines    []string
	features map[string]bool
	uplinks  []uplink
	sixes    bool
	owned    map[netip.Addr]bool
	vips     []netip.Addr
	managed  []managed // whose connected routes move in the end
	// what makes tables first and rules later
	marking, catching bool
}

// uplink is a link with its subnet in both families. Addresses in it are
// numbered.
type uplink struct {
	name string
	four netip.Prefix
	six  netip.Prefix
}

func generate(seed uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), seed: seed,
		features: map[string]bool{}, owned: map[netip.Addr]bool{}}
	g.sixes = g.chance(0.8)
	g.feature("both families", g.sixes)
	g.makeUplinks()
	g.makeOtherLinks()
	g.makeDefaults()
	g.makeStatics()
	g.makeBans()
	g.makeWide()
	g.makeSourceSpecific()
	g.makeManagedTables()
	g.makeMarkTables()
	g.makeCatchTables()
	more := g.chance(0.75)
	if more {
		g.makeTables()
	}
	g.makeRules()
	if more {
		g.makeMoreRules()
	}
	g.makeMarks()
	g.makeDeliberate()
	g.makeCatchAlls()
	g.makeVIPs()
	g.moveConnected()
	g.makePolicy()
	g.makeClients()
	return g
}

func (g *generator) chance(p float64) bool { return g.Float64() < p }

func (g *generator) feature(name string, has bool) {
	if has {
		g.features[name] = true
	}
}

func (g *generator) add(format string, args ...any) {
	g.lines = append(g.lines, fmt.Sprintf(format, args...))
}

// add6 adds a line only on hosts with IPv6.
func (g *generator) add6(format string, args ...any) {
	if g.sixes {
		g.add(format, args...)
	}
}

// host returns address number n of a prefix.
func host4(p netip.Prefix, n int) netip.Addr {
	b := p.Addr().AsSlice()
	b[len(b)-1] = byte(n)
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (g *generator) one() uplink { return g.uplinks[g.IntN(len(g.uplinks))] }

func (g *generator) makeUplinks() {
	n := 1 + g.IntN(8)
	g.feature("several uplinks", n > 1)
	for i := range n {
		u := uplink{name: fmt.Sprint("eth", i),
			four: netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/24", i)),
			six:  netip.MustParsePrefix(fmt.Sprintf("2001:db8:%d::/64", i))}
		switch {
		case i > 0 && g.chance(0.15):
			u.four, u.six = g.one().four, g.one().six
			g.features["shared subnets"] = true
		case i > 0 && g.chance(0.15):
			u.four, u.six = netip.PrefixFrom(g.one().four.Addr(), 16),
				netip.PrefixFrom(g.one().six.Addr(), 60)
			g.features["overlapping subnets"] = true
		}
		g.uplinks = append(g.uplinks, u)
		g.add("link add %s type veth", u.name)
		g.add("link set %s up", u.name)
		g.connected(i, u)
	}
	g.nestedSubnets()
	if g.chance(0.35) {
		g.features["link groups"] = true
		all, group := g.chance(0.5), 5+g.IntN(3)
		for _, u := range g.uplinks {
			if all || g.chance(0.4) {
				g.add("link set %s group %d", u.name, group)
			}
		}
	}
}

func (g *generator) address(u uplink, a netip.Addr, bits int) {
	if g.owned[a] {
		return
	}
	g.owned[a] = true
	g.add("addr add %s/%d dev %s", a, bits, u.name)
}

// makeOtherLinks adds links that are no uplinks: a bridge, an unnumbered link,
// a tunnel.
func (g *generator) makeOtherLinks() {
	if g.chance(0.4) {
		g.features["bridges"] = true
		g.add("link add docker0 type bridge")
		g.add("link set docker0 up")
		g.add("addr add 172.17.0.1/16 dev docker0")
		g.add6("addr add 2001:db8:d0::1/64 dev docker0")
	}
	if g.chance(0.4) {
		g.features["unnumbered links"] = true
		g.add("link add cali0 type veth")
		g.add("link set cali0 up")
		g.add("route add 10.244.0.7 dev cali0")
		g.add6("-6 route add 2001:db8:244::7 dev cali0")
	}
	if g.chance(0.5) {
		g.makeTunnel()
	}
}

func (g *generator) makeTunnel() {
	g.features["tunnels"] = true
	g.add("link add tun0 type %s", []string{"tun", "veth"}[g.IntN(2)])
	g.add("link set tun0 up")
	g.add("addr add 10.8.0.2/24 dev tun0")
	g.add6("addr add 2001:db8:8::2/64 dev tun0")
	g.add("route add 10.50.0.0/16 dev tun0")
	g.add6("-6 route add 2001:db8:50::/48 dev tun0")
	if g.chance(0.3) { // AllowedIPs as wide as half the Internet
		for _, wide := range []string{"0.0.0.0/1", "128.0.0.0/2", "196.0.0.0/6"} {
			g.add("route add %s dev tun0", wide)
		}
		g.add6("-6 route add 2000::/3 dev tun0")
	}
	if g.chance(0.4) { // wg-quick
		g.features["foreign rules without selectors"] = true
		g.add("route add default dev tun0 table 51820")
		g.add("rule add not fwmark 0xca6c lookup 51820")
		g.add6("-6 route add default dev tun0 table 51820")
		g.add6("-6 rule add not fwmark 0xca6c lookup 51820")
		g.both("lookup main suppress_prefixlength 0")
	}
}

// makeDefaults gives most uplinks a gateway, by one of the ways of the ladder.
func (g *generator) makeDefaults() {
	if len(g.uplinks) > 1 && g.chance(0.35) {
		g.features["multipath"] = true
		four, six := "", ""
		for _, u := range g.uplinks[:2] {
			four += fmt.Sprintf(" nexthop via %s dev %s weight %d", host4(u.four, 1),
				u.name, 1+g.IntN(3))
			six += fmt.Sprintf(" nexthop via %s dev %s", host4(u.six, 1), u.name)
		}
		g.add("route add default metric 5%s", four)
		g.add6("-6 route add default metric 5%s", six)
	}
	for i, u := range g.uplinks {
		metric := 10 * (i + 1)
		via, via6 := host4(u.four, 1), host4(u.six, 1)
		if g.chance(0.3) {
			via6 = netip.MustParseAddr("fe80::1")
		}
		switch g.IntN(6) {
		case 0, 1:
			g.add("route add default via %s dev %s metric %d%s", via, u.name, metric,
				g.tuned())
			g.add6("-6 route add default via %s dev %s metric %d%s", via6, u.name,
				metric, g.tuned())
		case 2:
			g.add("--gateway %s=%s", u.name, via)
			g.add6("--gateway %s=%s", u.name, host4(u.six, 1))
		case 3:
			g.features["gateways in other tables"] = true
			g.add("route add default via %s dev %s table %d", via, u.name, 100+i)
			g.add6("-6 route add default via %s dev %s table %d", via6, u.name, 100+i)
		case 4:
			g.features["several gateways per link"] = true
			g.add("route add default metric %d nexthop via %s dev %s nexthop via %s "+
				"dev %s weight 2", metric, via, u.name, host4(u.four, 2), u.name)
			g.add6("-6 route add default metric %d nexthop via %s dev %s nexthop via "+
				"%s dev %s", metric, via6, u.name, host4(u.six, 2), u.name)
		case 5:
			g.features["several gateways per link"] = true
			g.secondSubnet(i, u)
		}
	}
	g.makeEqualDefaults()
	if g.chance(0.1) {
		g.add("route add unreachable default metric 4294967295")
		g.add6("-6 route add unreachable default metric 4294967295")
	}
}

// makeEqualDefaults adds defaults of one metric.
func (g *generator) makeEqualDefaults() {
	if !g.chance(0.5) {
		return
	}
	g.features["defaults of one metric"] = true
	metric := 3 // no default has it yet except for the multipath one
	if g.chance(0.3) {
		metric += 2 * g.IntN(10)
	}
	for range 2 + g.IntN(2) {
		g.appendDefault(g.one(), metric)
	}
}

// appendDefault adds a default route next to others of its metric, as
// systemd-networkd does, and perhaps its gateway's neighbour entry.
func (g *generator) appendDefault(u uplink, metric int) {
	route := fmt.Sprintf("route append default via %s dev %s metric %d", host4(u.four, 1),
		u.name, metric)
	if slices.Contains(g.lines, route) {
		return
	}
	g.add("%s", route)
	if g.sixes && metric != 5 && g.chance(0.4) { // one multipath route
		g.once("-6 route append default via %s dev %s metric %d", host4(u.six, 1), u.name,
			metric)
	}
	if neigh := fmt.Sprintf("neigh add %s dev %s", host4(u.four, 1), u.name); g.chance(0.5) &&
		!slices.Contains(g.lines, neigh) {
		g.add("%s", neigh)
	}
}

// secondSubnet gives an uplink a further subnet with a router of its own.
func (g *generator) secondSubnet(i int, u uplink) {
	second := uplink{u.name, netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/24", 100+i)),
		netip.MustParsePrefix(fmt.Sprintf("2001:db8:%d::/64", 100+i))}
	g.address(second, host4(second.four, 10), 24)
	g.add("--gateway %s=%s", u.name, host4(u.four, 1))
	g.add("--gateway %s=%s", u.name, host4(second.four, 1))
	if g.sixes {
		g.address(second, host4(second.six, 10), 64)
		g.add("--gateway %s=%s", u.name, host4(u.six, 1))
		g.add("--gateway %s=%s", u.name, host4(second.six, 1))
	}
	g.uplinks = append(g.uplinks, second)
}

func (g *generator) makeStatics() {
	for i := range g.IntN(4) {
		g.features["static routes"] = true
		u, v := g.one(), g.one()
		switch {
		case g.chance(0.3) && u.name != v.name:
			g.features["multipath"] = true
			g.add("route add 10.%d.0.0/16 nexthop via %s dev %s "+
				"nexthop via %s dev %s weight 3", 200+i, host4(u.four, 7), u.name,
				host4(v.four, 8), v.name)
			g.add6("-6 route add 2001:db8:2%02d::/48 nexthop via %s dev "+
				"%s nexthop via %s dev %s", i, host4(u.six, 7), u.name,
				host4(v.six, 8), v.name)
		case g.chance(0.3):
			g.add("route add 10.%d.0.0/16 via %s dev %s metric %d mtu 1400", 200+i,
				host4(u.four, 7), u.name, g.IntN(3))
			g.add6("-6 route add 2001:db8:2%02d::/48 via fe80::7 "+
				"dev %s metric %d mtu 1400", i, u.name, 1+g.IntN(3))
		default:
			g.add("route add 10.%d.0.0/16 via %s dev %s%s", 200+i,
				host4(u.four, 7), u.name, g.tuned())
			g.add6("-6 route add 2001:db8:2%02d::/48 via %s dev %s%s", i,
				host4(u.six, 7), u.name, g.tuned())
		}
	}
}

func (g *generator) makeBans() {
	kinds := []string{"blackhole", "unreachable", "prohibit", "throw"}
	for i := range g.IntN(4) {
		g.features["bans"] = true
		kind := kinds[g.IntN(len(kinds))]
		g.add("route add %s 198.51.%d.0/24", kind, 200+i)
		g.add6("-6 route add %s 2001:db8:ba%d::/48", kind, i)
	}
}

// makeRules adds foreign rules, in front of lasthop and behind.
func (g *generator) makeRules() {
	for i := range g.IntN(3) {
		g.features["foreign rules with selectors"] = true
		g.selectorRule(i)
	}
	if g.chance(0.25) {
		g.features["foreign rules without selectors"] = true
		u := g.one()
		switch g.IntN(5) {
		case 0:
			g.add("route add default via %s dev %s table 7120",
				host4(u.four, 9), u.name)
			g.add("rule add pref 105 lookup main suppress_prefixlength 0")
			g.add("rule add pref 110 lookup 7120")
		case 1:
			g.add("rule add pref 300 lookup 7121") // an empty table
		case 2:
			g.add("route add default via %s dev %s table 7122",
				host4(u.four, 9), u.name)
			g.add("rule add pref %d lookup 7122", 1+g.IntN(6))
		case 3:
			g.add("rule add pref 32000 unreachable")
			g.add6("-6 rule add pref 32000 unreachable")
		case 4:
			g.add6("-6 route add default via fe80::9 dev %s table 7123", u.name)
			g.add6("-6 rule add pref 4000 lookup 7123")
		}
	}
}

func (g *generator) selectorRule(i int) {
	u := g.one()
	priority := []string{"", fmt.Sprintf("pref %d ", 900+i),
		fmt.Sprintf("pref %d ", 6000+i)}[g.IntN(3)]
	table := 300 + i
	if g.chance(0.7) {
		g.add("route add default via %s dev %s table %d", host4(u.four, 9), u.name, table)
		g.add6("-6 route add default via %s dev %s table %d", host4(u.six, 9),
			u.name, table)
	}
	v := g.one()
	switch g.IntN(8) {
	case 0:
		g.add("rule add %sfrom %s lookup %d", priority, v.four, table)
		g.add6("-6 rule add %sfrom %s lookup %d", priority, v.six, table)
	case 1:
		g.add("rule add %sto 203.0.113.0/24 lookup %d", priority, table)
		g.add6("-6 rule add %sto 2001:db8:fff0::/48 lookup %d", priority, table)
	case 2:
		g.add("rule add %sfwmark 0x10/0xff lookup %d", priority, table)
	case 3:
		g.add("rule add %siif %s lookup %d", priority, u.name, table)
	case 4:
		g.add("rule add %snot from %s lookup %d", priority, v.four, table)
	case 5:
		g.add("rule add %sfrom %s prohibit", priority, host4(v.four, 10))
		g.add6("-6 rule add %sfrom %s unreachable", priority, host4(v.six, 10))
	case 6:
		g.add("rule add pref %d from %s goto 32766", 800+i, v.four)
		g.add6("-6 rule add pref %d from %s goto 32766", 800+i, v.six)
	case 7:
		g.add("rule add %sfrom %s iif lo lookup %d suppress_prefixlength 3", priority,
			v.four, table)
		g.add("rule add %sto 10.0.0.0/8 nop", priority)
	}
}

// makeTables fills tables for makeMoreRules. Routes come before rules: the
// kernel asks the rules for a gateway.
func (g *generator) makeTables() {
	for table := 400; table < 403; table++ {
		g.fillTable(table)
	}
}

// makeMoreRules adds rules of every kind that look into a few tables which they
// share.
func (g *generator) makeMoreRules() {
	used := map[int]int{}
	for i := range 3 + g.IntN(7) {
		base := []int{700, 4000, 5050, 6000}[g.IntN(4)]
		table := 400 + g.IntN(4) // 403 is empty
		if used[table]++; used[table] == 2 {
			g.features["tables of several rules"] = true
		}
		g.anyRule(base+i, table)
	}
}

// fillTable gives a table routes of several metrics, and some that reject or
// throw.
func (g *generator) fillTable(table int) {
	u, v := g.one(), g.one()
	if g.chance(0.6) {
		g.add("route add default via %s dev %s table %d", host4(u.four, 9), u.name, table)
		g.add6("-6 route add default via %s dev %s table %d", host4(u.six, 9),
			u.name, table)
	}
	if g.chance(0.5) {
		g.features["several metrics"] = true
		for _, metric := range []int{30, 20} {
			g.add("route add 10.200.0.0/16 via %s dev %s table %d metric %d mtu 1300",
				host4(v.four, metric), v.name, table, metric)
			g.add6("-6 route add 2001:db8:200::/48 via %s dev %s table %d metric %d "+
				"mtu 1300", host4(v.six, metric), v.name, table, metric)
		}
	}
	if g.chance(0.3) && u.name != v.name {
		g.features["multipath"] = true
		g.add("route add 45.0.0.0/8 table %d nexthop via %s dev %s nexthop via %s dev %s "+
			"weight 2", table, host4(u.four, 7), u.name, host4(v.four, 8), v.name)
		g.add6("-6 route add 3fff::/20 table %d nexthop via %s dev %s nexthop via %s dev "+
			"%s", table, host4(u.six, 7), u.name, host4(v.six, 8), v.name)
	}
	if g.chance(0.6) {
		g.features["reject routes in own tables"] = true
		kinds := []string{"blackhole", "unreachable", "prohibit", "throw"}
		g.add("route add %s 203.0.113.0/24 table %d", kinds[g.IntN(4)], table)
		g.add6("-6 route add %s 2001:db8:fff0::/44 table %d", kinds[g.IntN(4)], table)
		if g.chance(0.3) {
			kind := kinds[g.IntN(4)]
			g.add("route add %s default table %d metric 4000", kind, table)
			g.add6("-6 route add %s default table %d metric 4000", kind, table)
		}
	}
}

// anyRule adds a rule of one kind or another.
func (g *generator) anyRule(priority, table int) {
	u, v := g.one(), g.one()
	lookup := fmt.Sprint("lookup ", table)
	switch kind := g.IntN(12); kind {
	case 0:
		g.features["rules by oif"] = true
		g.both("pref %d %soif %s %s", priority, []string{"", "", "not "}[g.IntN(3)],
			u.name, lookup)
	case 1:
		g.features["rules by iif"] = true
		g.bothOf(v, "pref %d from %s iif %s %s", priority,
			[]string{"lo", u.name}[g.IntN(2)], lookup)
	case 2:
		g.features["rules by mask"] = true
		g.both("pref %d fwmark %s %s", priority,
			[]string{"0x10/0xff", "0x1/0x1", "0x20", "0x0/0x8000"}[g.IntN(4)], lookup)
	case 3:
		g.features["inverted rules"] = true
		g.invertedRule(priority, v, lookup)
	case 4:
		g.features["goto chains"] = true
		g.bothOf(v, "pref %d from %s goto %d", priority, 10000+priority)
		g.both("pref %d goto %d", 10000+priority, 30000)
		g.both("pref %d %s", 20000, lookup) // leapt over
		g.both("pref %d nop", 30000)
	case 5:
		g.features["gotos to nowhere"] = true
		g.bothOf(v, "pref %d from %s goto %d", priority, 31999)
	case 6:
		g.features["rules that do nothing"] = true
		g.bothOf(v, "pref %d from %s nop", priority)
	default:
		g.refusingRule(kind, priority, u, v, lookup)
	}
}

// refusingRule adds a rule that does not take every route it finds, or takes
// none.
func (g *generator) refusingRule(kind, priority int, u, v uplink, lookup string) {
	switch kind {
	case 7:
		g.features["rules with suppress_ifgroup"], g.features["link groups"] = true, true
		g.add("link set %s group 5", u.name)
		g.bothOf(v, "pref %d from %s %s suppress_ifgroup %d", priority, lookup,
			[]int{5, 5, 5, 0}[g.IntN(4)])
	case 8:
		g.features["rules with suppress_ifgroup"], g.features["link groups"] = true, true
		g.add("link set %s group 5", u.name)
		g.both("pref %d lookup main suppress_prefixlength %d suppress_ifgroup 5",
			priority, g.IntN(20))
	case 9:
		g.features["rules with suppress_prefixlength"] = true
		g.both("pref %d %s suppress_prefixlength %d", priority, lookup,
			[]int{0, 0, 16, 48}[g.IntN(4)])
	case 10:
		g.features["rules that reject"] = true
		g.bothOf(v, "pref %d from %s fwmark %s %s", priority,
			[]string{"0x1/0x1", "0x110"}[g.IntN(2)],
			[]string{"blackhole", "unreachable", "prohibit"}[g.IntN(3)])
	case 11:
		g.features["rules that reject"] = true
		g.add("rule add pref %d to 203.0.113.0/24 %s", priority,
			[]string{"blackhole", "unreachable", "prohibit"}[g.IntN(3)])
		g.add6("-6 rule add pref %d to 2001:db8:fff0::/48 %s", priority,
			[]string{"blackhole", "unreachable", "prohibit"}[g.IntN(3)])
	}
}

// invertedRule adds a rule with `not` and one selector or two.
func (g *generator) invertedRule(priority int, v uplink, lookup string) {
	switch g.IntN(5) {
	case 0:
		g.bothOf(v, "pref %d not from %s %s", priority, lookup)
	case 1:
		g.bothOf(v, "pref %d not to %s %s", priority, lookup)
	case 2:
		g.both("pref %d not fwmark 0x10/0xf0 %s", priority, lookup)
	case 3:
		g.both("pref %d not iif lo %s", priority, lookup) // never matches
	case 4:
		g.bothOf(v, "pref %d not from %s fwmark 0x1/0x1 iif lo %s", priority, lookup)
	}
}

// both adds a rule in both families, unless the host has it already.
func (g *generator) both(format string, args ...any) {
	rule := "rule add " + fmt.Sprintf(format, args...)
	rule = strings.Replace(rule, "from all ", "", 1) // the same rule without
	if !slices.Contains(g.lines, rule) {
		g.add("%s", rule)
		g.add6("-6 %s", rule)
	}
}

// bothOf is both for a rule whose second argument is the uplink's subnet.
func (g *generator) bothOf(u uplink, format string, priority int, args ...any) {
	g.add("rule add "+format, slices.Concat([]any{priority, u.four}, args)...)
	g.add6("-6 rule add "+format, slices.Concat([]any{priority, u.six}, args)...)
}

// makeVIPs adds further addresses and the listeners.
func (g *generator) makeVIPs() {
	for i := range 1 + g.IntN(6) {
		u := g.one()
		a, bits := host4(u.four, 100+i), u.four.Bits()
		if g.sixes && g.chance(0.4) {
			a, bits = host4(u.six, 100+i), u.six.Bits()
		}
		switch {
		case g.chance(0.25):
			g.features["absent VIPs"] = true
		case g.chance(0.2):
			g.features["/32 VIPs"] = true
			g.address(u, a, a.BitLen())
		case g.chance(0.15):
			g.features["/32 VIPs"] = true
			a = netip.AddrFrom4([4]byte{203, 0, 113, byte(100 + i)})
			g.address(u, a, 32)
		case g.chance(0.1):
			g.features["/32 VIPs"] = true
			g.address(uplink{name: "lo"}, a, a.BitLen())
		default:
			g.address(u, a, bits)
		}
		g.vips = append(g.vips, a)
		g.add("listen %s", a)
	}
	for i, u := range g.uplinks {
		if g.chance(0.5) {
			g.add("listen %s", host4(u.four, 10+i))
		}
	}
	if g.chance(0.3) {
		g.features["wildcards"] = true
		g.add("listen 0.0.0.0")
		g.add6("listen ::")
	}
}

func (g *generator) makePolicy() {
	if g.chance(0.35) {
		g.features["binds"] = true
		transparent := ""
		if g.chance(0.4) {
			transparent = " transparent"
		}
		a := g.vips[g.IntN(len(g.vips))]
		u := g.one()
		g.add("bind %s%s %s %s", a, transparent, host4(u.four, 60), host4(u.six, 60))
	}
	if g.chance(0.2) {
		g.add("--return %s=%s", g.one().name, []string{"main-first", "off"}[g.IntN(2)])
		g.features["policy"] = true
	}
	if g.chance(0.2) {
		g.add("--direct 10.200.0.0/16")
		g.add6("--direct 2001:db8:200::/48")
		g.features["policy"] = true
	}
	if g.chance(0.2) {
		g.add("--fail-closed %s", []string{"*", g.one().name}[g.IntN(2)])
		g.features["policy"] = true
	}
}

// makeClients adds one destination of every class.
func (g *generator) makeClients() {
	for _, c := range []string{"198.51.100.2", "45.1.2.3", "203.0.113.9", "172.17.0.5",
		"10.244.0.7", "10.8.0.9", "10.50.0.9", "10.200.0.9", "10.201.0.9", "10.202.0.9",
		"198.51.200.9", "198.51.201.9", "198.51.202.9", "198.51.203.9",
		"198.51.204.9", "100.100.0.9", "192.0.3.9"} {
		g.add("client %s", c)
	}
	for _, u := range g.uplinks {
		g.add("client %s", host4(u.four, 50))
		g.add6("client %s", host4(u.six, 50))
	}
	g.add("client %s", host4(g.uplinks[0].four, 10)) // the host itself
	for _, c := range []string{"2001:db8:ffff::2", "3fff::1", "2001:db8:fff0::9",
		"2001:db8:d0::5", "2001:db8:244::7", "2001:db8:8::9", "2001:db8:50::9",
		"2001:db8:200::9", "2001:db8:201::9", "2001:db8:202::9", "2001:db8:ba0::9", "2001:db8:ba1::9", "2001:db8:ba2::9",
		"2001:db8:203::9", "2001:db8:204::9", "fd00:7::9", "fd00:8::9", "fc00::9",
		"2001:db8:3::9"} {
		g.add6("client %s", c)
	}
	g.add6("client %s", host4(g.uplinks[0].six, 10))
}
