package main_test

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// This file draws what real hosts have besides links, defaults and plain rules:
// what other programs and administrators mark, tune, ban, move and catch.

// pick returns one of a few words.
func (g *generator) pick(words ...string) string { return words[g.IntN(len(words))] }

// once adds a line unless the host has it already.
func (g *generator) once(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if strings.Contains(line, "rule add from all lookup") { // the same rule without
		line = strings.Replace(line, "from all ", "", 1)
	}
	if !slices.Contains(g.lines, line) {
		g.add("%s", line)
	}
}

// side is a family as an `ip` line begins: "" or "-6 ".
type side string

// sides are the families of the host.
func (g *generator) sides() []side {
	if g.sixes {
		return []side{"", "-6 "}
	}
	return []side{""}
}

// word returns the word of the family.
func (s side) word(four, six string) string {
	if s == "" {
		return four
	}
	return six
}

// net and host are an uplink's subnet in the family, and an address in it.
func (s side) net(u uplink) netip.Prefix {
	if s == "" {
		return u.four.Masked()
	}
	return u.six.Masked()
}

func (s side) host(u uplink, n int) netip.Addr { return host4(s.net(u), n) }

// priority is that of a foreign rule: in front of lasthop, among them, behind
// them, or what the kernel gives.
func (g *generator) priority(i int) string {
	if g.chance(0.2) {
		return ""
	}
	return fmt.Sprintf("pref %d ", []int{500, 3000, 5110, 5190, 7000, 32100}[g.IntN(6)]+i)
}

// allMetrics are what iproute2 can say of the transports that use a route, in
// the kernel's order.
var allMetrics = []string{"mtu 1400", "mtu lock 1400", "window 65535", "rtt 100ms",
	"rttvar lock 50ms", "ssthresh 30", "cwnd lock 40", "advmss 1200", "advmss lock 1100",
	"reordering 5", "hoplimit 60", "initcwnd 20", "features ecn", "rto_min lock 200ms",
	"initrwnd 30", "quickack 1", "congctl reno", "congctl lock cubic", "fastopen_no_cookie 1"}

// tuned is a few metrics for the end of a line, or nothing.
func (g *generator) tuned() string {
	if !g.chance(0.3) {
		return ""
	}
	g.features["metrics of transports"] = true
	text, last := "", ""
	for _, m := range allMetrics {
		if key, _, _ := strings.Cut(m, " "); key != last && g.chance(0.2) {
			text, last = text+" "+m, key
		}
	}
	return text
}

// nestedSubnets gives an uplink further addresses: in a part of its subnet, and
// in a wider one around it.
func (g *generator) nestedSubnets() {
	if !g.chance(0.35) {
		return
	}
	g.features["nested subnets of one link"] = true
	for i, bits := range [][2]int{{26, 72}, {15, 46}} {
		u := g.one()
		if i > 0 && g.chance(0.5) {
			continue
		}
		four, six := host4(u.four, 130+i), host4(u.six, 130+i)
		g.address(u, four, bits[0])
		g.vips = append(g.vips, four)
		g.add("listen %s", four)
		if g.sixes {
			g.address(u, six, bits[1])
			g.add("listen %s", six)
		}
		g.add("client %s", host4(u.four, 150))
		g.add6("client %s", host4(u.six, 150))
		if g.chance(0.3) { // the part has a router of its own
			g.once("route add default via %s dev %s metric %d", host4(u.four, 140),
				u.name, 71+i)
		}
	}
}

// managed is an uplink whose connected routes a manager writes.
type managed struct {
	uplink
	table, metric int
	own4          netip.Addr
}

// connected adds an uplink's address. A manager may take the kernel's connected
// routes for its own, and move them to another table in the end.
func (g *generator) connected(i int, u uplink) {
	own4, own6 := host4(u.four, 10+i), host4(u.six, 10+i)
	if !g.chance(0.15) {
		g.address(u, own4, u.four.Bits())
		if g.sixes {
			g.address(u, own6, u.six.Bits())
		}
		return
	}
	g.features["connected routes of managers"] = true
	g.owned[own4], g.owned[own6] = true, true
	m := managed{uplink: u, table: 100 + i, metric: 300 + i, own4: own4}
	g.add("addr add %s/%d dev %s noprefixroute", own4, u.four.Bits(), u.name)
	g.add("route add %s dev %s proto kernel scope link src %s metric %d", u.four.Masked(),
		u.name, own4, m.metric)
	if g.sixes {
		g.add("addr add %s/%d dev %s noprefixroute", own6, u.six.Bits(), u.name)
		g.add("-6 route add %s dev %s proto kernel metric %d", u.six.Masked(), u.name,
			m.metric)
	}
	if g.chance(0.7) {
		g.managed = append(g.managed, m)
	}
}

// makeManagedTables writes what a manager moves to a table of its own: the
// connected route, a default and a static route.
func (g *generator) makeManagedTables() {
	for _, m := range g.managed {
		static := g.chance(0.5)
		for _, s := range g.sides() {
			table := fmt.Sprintf("dev %s table %d metric 9", m.name, m.table)
			g.once("%sroute add %s proto kernel%s %s", s, s.net(m.uplink),
				s.word(" scope link src "+m.own4.String(), ""), table)
			g.once("%sroute add default via %s %s", s, s.host(m.uplink, 1), table)
			if static {
				g.once("%sroute add %s via %s %s", s, s.word("192.0.3.0/24",
					"2001:db8:3::/48"), s.host(m.uplink, 4), table)
			}
		}
	}
}

// moveConnected takes the moved routes out of main, and adds the rules that
// lead to them.
func (g *generator) moveConnected() {
	for _, m := range g.managed {
		priority := g.priority(m.table - 100)
		for _, s := range g.sides() {
			g.add("%sroute del %s dev %s metric %d", s, s.net(m.uplink), m.name,
				m.metric)
			g.once("%srule add %sfrom %s lookup %d", s, priority, s.net(m.uplink),
				m.table)
		}
	}
}

// makeSourceSpecific adds IPv6 routes for packets from a subnet alone.
func (g *generator) makeSourceSpecific() {
	if !g.sixes || !g.chance(0.4) {
		return
	}
	g.features["source-specific routes"] = true
	for i := range 1 + g.IntN(4) {
		u, v := g.one(), g.one()
		via := g.pick("fe80::1", host4(u.six, 1).String())
		from := g.pick(u.six.Masked().String(), v.six.Masked().String(),
			host4(v.six, 10).String(), "2001:db8::/32")
		table := g.pick("", "", " table 101", " table 400", " table 530")
		switch g.IntN(6) {
		case 0:
			g.once("-6 route add 2001:db8:2%02d::/48 from %s via %s dev %s%s", i,
				from, via, u.name, table)
		case 1:
			g.once("-6 route add %s 2001:db8:ba%d::/48 from %s%s",
				g.pick("unreachable", "throw", "prohibit"), i, from, table)
		case 2:
			g.once("-6 route add %s/123 from %s dev %s%s metric %d", host4(v.six, 32),
				from, u.name, table, 70+i)
		default:
			g.once("-6 route add default from %s via %s dev %s%s metric %d%s", from,
				via, u.name, table, 60+i, g.tuned())
		}
	}
	if g.chance(0.3) {
		g.both("pref %d lookup 530", 2950)
	}
}

// makeMarkTables fills tables that marks lead to, and makeMarks adds the rules:
// a connmark that keeps replies on their link, or a few marks of programs.
func (g *generator) makeMarkTables() {
	g.marking = g.chance(0.4)
	if !g.marking {
		return
	}
	g.features["marks"] = true
	for i, u := range g.uplinks {
		connected := g.chance(0.5)
		for _, s := range g.sides() {
			g.once("%sroute add default via %s dev %s table %d", s, s.host(u, 1),
				u.name, 610+i)
			if connected {
				g.once("%sroute add %s dev %s%s table %d", s, s.net(u), u.name,
					s.word(" scope link", ""), 610+i)
			}
		}
	}
}

func (g *generator) makeMarks() {
	if !g.marking {
		return
	}
	symmetric, shift, masked := g.chance(0.5), 8*g.IntN(2), g.chance(0.5)
	for i := range g.uplinks {
		mark := fmt.Sprintf("%#x", (i+1)<<shift)
		if masked {
			mark += fmt.Sprintf("/%#x", 0xff<<shift)
		}
		action := fmt.Sprint("lookup ", 610+i)
		if !symmetric {
			mark = g.pick("0x1", "0x2/0x3", "0x10/0xff", "0x100/0xf00",
				"0x80000/0xff0000")
			action = g.pick(action, action, "lookup main", "prohibit", "goto 32766",
				"lookup main suppress_prefixlength 0")
		}
		selector := g.pick("", "", "", "iif lo ", "not ")
		if selector != "not " && g.chance(0.3) {
			selector += "to 203.0.113.0/24 "
		}
		rule := fmt.Sprintf("%s%sfwmark %s %s", g.priority(i), selector, mark, action)
		if strings.Contains(rule, "goto") && !strings.HasPrefix(rule, "pref") {
			continue
		}
		for _, s := range g.sides() {
			g.once("%srule add %s", s, strings.Replace(rule, "203.0.113.0/24",
				s.word("203.0.113.0/24", "2001:db8:fff0::/48"), 1))
		}
	}
}

// mapsUsers reports whether the kernel can translate users of rules here.
func mapsUsers() bool {
	ids, _ := os.ReadFile("/proc/self/uid_map")
	return strings.Contains(string(ids), "4294967295")
}

// makeDeliberate adds foreign rules that were written for some packets, with
// every selector that iproute2 knows, alone and together.
func (g *generator) makeDeliberate() {
	if !g.chance(0.45) {
		return
	}
	g.features["deliberate rules"] = true
	for i := range 1 + g.IntN(5) {
		g.deliberate(i)
	}
}

// selectors are those that routing.Rule does not model; realms are IPv4's.
var selectors = []string{"ipproto tcp", "ipproto udp", "ipproto icmp", "ipproto tcp sport 80",
	"sport 80", "sport 1-1023", "ipproto tcp dport 40000", "ipproto udp dport 30000-50000",
	"dport 123", "tos 0x10", "tos 0x8 ipproto tcp", "uidrange 1000-1999", "tun_id 7",
	"realms 3/7", "ipproto tcp sport 80 realms 5"}

func (g *generator) deliberate(i int) {
	u, v := g.one(), g.one()
	from, to, more, realms := g.IntN(3), g.IntN(10), "", ""
	if g.chance(0.2) {
		more += " fwmark " + g.pick("0x1", "0x10/0xff", "0x3/0x3")
	}
	if g.chance(0.3) {
		more += g.pick(" iif lo", " oif "+u.name)
	}
	if s := selectors[g.IntN(len(selectors))]; g.chance(0.7) &&
		(!strings.HasPrefix(s, "uidrange") || mapsUsers()) {
		g.features["rules with ports, users, tos"] = true
		s, realms, _ = strings.Cut(s, "realms")
		more += " " + strings.TrimSpace(s)
	}
	lookup := fmt.Sprint("lookup ", 400+g.IntN(4))
	action := g.pick(lookup, lookup, lookup+" suppress_prefixlength 0",
		lookup+" suppress_ifgroup 5", "lookup main", "lookup main suppress_prefixlength 0",
		"unreachable", "prohibit", "blackhole", "goto 32766")
	priority := g.priority(i)
	if priority == "" && strings.HasPrefix(action, "goto") {
		// the kernel takes `from all` for a twin of any other
		priority = fmt.Sprintf("pref %d ", 3090+i)
	}
	for _, s := range g.sides() {
		rule := []string{"from all", fmt.Sprint("from ", s.net(v)),
			fmt.Sprint("from ", s.host(v, 10))}[from]
		switch to {
		case 0:
			rule += " to " + s.word("203.0.113.0/24", "2001:db8:fff0::/48")
		case 1:
			rule += " to " + s.word("198.51.100.0/24", "2001:db8:ffff::/48")
		case 2:
			rule += fmt.Sprint(" to ", s.net(u))
		}
		rule += more
		if realms != "" && s == "" {
			rule += " realms" + realms
		}
		g.once("%srule add %s%s %s", s, priority, strings.Join(strings.Fields(rule), " "),
			action)
	}
}

// makeCatchTables fills the tables of a VPN for everything, and makeCatchAlls
// adds its rules.
func (g *generator) makeCatchTables() {
	g.catching = g.chance(0.4)
	if !g.catching {
		return
	}
	g.features["catch-all tables with more than a default"] = true
	u, v := g.one(), g.one()
	dev := u.name
	if g.features["tunnels"] {
		dev = "tun0"
	}
	for table := 520; table < 522; table++ {
		some := func(p float64, four, six string) {
			if g.chance(p) {
				for _, s := range g.sides() {
					g.once("%sroute add %s table %d", s,
						s.word(four, six), table)
				}
			}
		}
		some(0.7, "default dev "+dev, "default dev "+dev)
		some(0.3, "128.0.0.0/1 dev "+dev, "2000::/3 dev "+dev)
		some(0.6, "100.100.0.0/16 dev "+dev, "fd00:7::/48 dev "+dev)
		some(0.4, fmt.Sprintf("198.51.203.0/24 via %s dev %s", host4(v.four, 7), v.name),
			fmt.Sprintf("2001:db8:203::/48 via %s dev %s", host4(v.six, 7), v.name))
		kind := g.pick("unreachable ", "blackhole ", "prohibit ", "throw ")
		some(0.3, kind+"198.51.204.0/24", kind+"2001:db8:204::/48")
		some(0.15, kind+"128.0.0.0/2", kind+"2000::/4")
		some(0.15, "unreachable default metric 4000000",
			"unreachable default metric 4000000")
		some(0.3, "10.0.0.0/8 dev "+dev, "fc00::/7 dev "+dev)
	}
}

func (g *generator) makeCatchAlls() {
	if !g.catching {
		return
	}
	if g.chance(0.3) { // Tailscale
		g.both("pref 5210 fwmark 0x80000/0xff0000 lookup main")
		g.both("pref 5230 fwmark 0x80000/0xff0000 lookup default")
		g.both("pref 5250 fwmark 0x80000/0xff0000 unreachable")
		g.both("pref 5270 lookup 520")
	}
	for i := range 1 + g.IntN(2) {
		if g.chance(0.5) {
			g.both("%s%slookup %d%s", g.priority(40+i), g.pick("", "not fwmark 0xca6c ",
				"iif lo ", "not fwmark 0x80000/0xff0000 "), 520+i,
				g.pick("", "", " suppress_prefixlength 0"))
		}
		if g.chance(0.4) {
			g.both("%slookup main suppress_prefixlength 0", g.priority(50+i))
		}
	}
}

// makeWide gives main routes as wide as a default: private IPv6 addresses, and
// ways to large parts of the Internet that reject.
func (g *generator) makeWide() {
	if g.sixes && g.chance(0.35) {
		g.features["private IPv6 routes"] = true
		u := g.one()
		g.once("-6 route add %s", g.pick("fc00::/7 dev "+u.name, "unreachable fc00::/7",
			"fd00::/8 via fe80::7 dev "+u.name, "blackhole fd00::/8"))
		g.once("-6 route add fd00:8::/48 via fe80::8 dev %s%s", u.name, g.tuned())
	}
	if g.chance(0.1) {
		kind := g.pick("unreachable", "blackhole", "prohibit")
		for _, s := range g.sides() {
			g.once("%sroute add %s %s metric 5000", s, kind,
				s.word("128.0.0.0/1", "2000::/3"))
		}
	}
}
