package bench

import (
	"fmt"
	"strings"
)

// variant is one way to make replies leave by the uplink of their VIP.
type variant struct {
	name      string
	put, take func(*street) // take removes what put has added
}

func nothing(*street) {}

const (
	lastHop = "lasthop last-hop"
	bpffs   = "/sys/fs/bpf"
)

// base is the variant that all other variants are compared with.
const base = 0

var variants = []variant{
	{"no rules", nothing, nothing},
	{"no rules, again", nothing, nothing},
	{"lasthop strict",
		func(s *street) { s.lasthop("apply") },
		func(s *street) { s.lasthop("clear") }},
	{lastHop, (*street).applyLastHop,
		func(s *street) { s.lasthop("clear") }},
	{"one rule per VIP",
		func(s *street) { s.tables("add"); s.ruleEach("add") },
		func(s *street) { s.ruleEach("del"); s.tables("del") }},
	{"CNI sbr",
		func(s *street) { s.sbr("add", "del") },
		func(s *street) { s.sbr("del", "add") }},
	{"nft mark map",
		func(s *street) { s.tables("add"); s.marks("add"); s.nft(s.markMap()) },
		func(s *street) { s.nft("delete table inet bench"); s.marks("del"); s.tables("del") }},
}

// applyLastHop installs the mode last-hop for all uplinks. Its maps are pinned
// where no other process sees it: attached programs keep them.
func (s *street) applyLastHop() {
	s.t.Helper()
	command := []string{"unshare", "--mount", "sh", "-c",
		"mount -t bpf bpf " + bpffs + ` && exec "$@"`, "sh"}
	command = append(command, s.command("apply")...)
	for u := range s.uplinks {
		command = append(command, "--return", fmt.Sprintf("eth%d=last-hop", u))
	}
	s.host.Run(command...)
	if !strings.Contains(s.host.IP("route show table all"), "encap bpf xmit lasthop/") {
		s.t.Fatal("the mode last-hop is not possible here")
	}
}

// lines runs the `ip` commands that f writes, in a batch for each family.
func (s *street) lines(f func(b *strings.Builder, f family)) {
	s.t.Helper()
	for _, family := range families {
		var b strings.Builder
		f(&b, family)
		s.host.Batch(b.String(), family.options...)
	}
}

// tables adds or deletes a table for each uplink.
func (s *street) tables(verb string) {
	s.t.Helper()
	s.lines(func(b *strings.Builder, f family) { s.tablesOf(b, f, verb) })
}

func (s *street) tablesOf(b *strings.Builder, f family, verb string) {
	for u := range s.uplinks {
		fmt.Fprintf(b, "route %s %s dev eth%d table %d\n", verb, f.subnet(u), u, 101+u)
		fmt.Fprintf(b, "route %s default via %s dev eth%d table %d\n", verb, f.router(u), u,
			101+u)
	}
}

// ruleEach adds or deletes the rules of the recipe by hand.
func (s *street) ruleEach(verb string) {
	s.t.Helper()
	s.lines(func(b *strings.Builder, f family) { s.ruleEachOf(b, f, verb) })
}

func (s *street) ruleEachOf(b *strings.Builder, f family, verb string) {
	for i := range s.vips {
		fmt.Fprintf(b, "rule %s from %s lookup %d pref 1000\n", verb, s.vip(f, i),
			101+s.uplinkOf(i))
	}
}

// sbr does what the CNI plugin of this name does, for each interface except the
// first: it adds a rule for each address, which the kernel puts in front of the
// other rules, and moves the routes of the interface from main into a table.
// Neighbours of fe80:: stay. The verbs are those of rules and tables, and of
// main's routes.
func (s *street) sbr(verb, main string) {
	s.t.Helper()
	s.lines(func(b *strings.Builder, f family) {
		for u := 1; u < s.uplinks; u++ {
			connected := fmt.Sprintf("%s dev eth%d proto kernel", f.subnet(u), u)
			if f.bits == 64 {
				connected += " metric 256"
			} else {
				connected += fmt.Sprintf(" scope link src %s", f.own(u))
			}
			fmt.Fprintf(b, "rule %s from %s lookup %d\n", verb, f.own(u), 100+u)
			if verb == "add" { // while main still has a route to the gateway
				fmt.Fprintf(b, "route add %s table %d\n", connected, 100+u)
				fmt.Fprintf(b, "route add %s table %d\n", s.defaultBy(f, u), 100+u)
				fmt.Fprintf(b, "route del %s\nroute del %s\n", s.defaultBy(f, u),
					connected)
				continue
			}
			fmt.Fprintf(b, "route %s %s\nroute %s %s\n", main, connected, main,
				s.defaultBy(f, u))
			fmt.Fprintf(b, "route del %s table %d\n", s.defaultBy(f, u), 100+u)
			fmt.Fprintf(b, "route del %s table %d\n", connected, 100+u)
		}
		for i := range s.vips {
			if u := s.uplinkOf(i); u > 0 {
				fmt.Fprintf(b, "rule %s from %s lookup %d\n", verb, s.vip(f, i),
					100+u)
			}
		}
	})
}

// marks adds or deletes a rule for each uplink's mark.
func (s *street) marks(verb string) {
	s.t.Helper()
	s.lines(func(b *strings.Builder, f family) {
		for u := range s.uplinks {
			fmt.Fprintf(b, "rule %s fwmark %d lookup %d pref 1000\n", verb, 1+u, 101+u)
		}
	})
}

// markMap is a ruleset: a connection has the mark of its first packet's source
// address, and each packet the mark of its connection.
func (s *street) markMap() string {
	elements := func(f family) string {
		var list []string
		for i := range s.vips {
			list = append(list, fmt.Sprintf("%s : %d", s.vip(f, i), 1+s.uplinkOf(i)))
		}
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf(`table inet bench {
	map vip4 { type ipv4_addr : mark; elements = { %s } }
	map vip6 { type ipv6_addr : mark; elements = { %s } }
	chain outbound {
		type route hook output priority mangle
		ct mark != 0 meta mark set ct mark return
		ct mark set ip saddr map @vip4
		ct mark set ip6 saddr map @vip6
		meta mark set ct mark
	}
}
`, elements(families[0]), elements(families[1]))
}

func (s *street) nft(ruleset string) {
	s.t.Helper()
	c := s.host.Command("nft", "-f", "-")
	c.Stdin = strings.NewReader(ruleset)
	if out, err := c.CombinedOutput(); err != nil {
		s.t.Fatalf("nft: %v\n%s", err, out)
	}
}
