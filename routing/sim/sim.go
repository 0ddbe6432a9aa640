// Package sim makes the routing.Host that the kernel would have after a few
// `ip` commands, without a kernel.
//
// A test writes its host as an administrator would build it, one command a
// line, without the word ip; # begins a comment:
//
//	link add eth1 type veth
//	link set eth1 up
//	addr add 10.0.1.10/24 dev eth1
//	-6 route add default via 2001:db8:1::1 dev eth1
//	rule add from 10.0.1.0/24 lookup 100
//	sysctl net.ipv4.conf.eth1.rp_filter=1
//	lease eth1 10.0.1.1 systemd-networkd
//	nft add table inet fw
//	ruleset IPv4 inet fw prerouting handle 2: fib saddr
//	last-hop tag 5b2
//	tc filter add dev eth1 ingress pref 1 matchall
//
// The simulation adds what the kernel adds by itself: the local, broadcast and
// connected routes of each address, link-local addresses, the default rules,
// and a priority if a rule has none. It leaves out multicast and anycast routes
// of table local.
//
// Batch returns the same host as scripts for `ip -batch` in a fresh network
// namespace. A veth gets its peer p-NAME in the same namespace; Drop removes
// peers from what was read there. Tests that compare both keep this package
// honest. sysctl, lease and nft lines are not for ip: the caller sets the
// first, and makes nft read Filter; leases live in files. ruleset lines are the
// reading of the packet filter, or `unread` and the reason; without them the
// packet filter looks nothing up. Only this package knows links of kind vrf and
// wireguard, for kernels that lack them.
package sim

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"
)

// Sim is a simulated host and the script that makes the real one.
type Sim struct {
	Host   routing.Host
	Filter string // commands for nft, a line each
	batch  strings.Builder
	rules  strings.Builder // of IPv6
}

// kernel is the protocol of what the kernel adds itself (RTPROT_KERNEL).
const kernel uint8 = 2

// Parse carries out the commands. Errors name the line.
func Parse(lines string) (*Sim, error) {
	s := &Sim{Host: routing.Host{Name: "sim", Sysctls: map[string]string{}}}
	s.boot()
	for i, line := range strings.Split(lines, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if err := s.do(words); err != nil {
			return nil,
				fmt.Errorf("line %d: %s: %w", i+1, strings.Join(words, " "), err)
		}
	}
	s.markLinkDown()
	for _, f := range routing.Families {
		if s.Host.Forwards(f) && !slices.ContainsFunc(s.Host.Rulesets,
			func(r routing.Ruleset) bool { return r.Family == f }) {
			s.Host.Rulesets = append(s.Host.Rulesets, routing.Ruleset{Family: f})
		}
	}
	return s, nil
}

// Batch returns two scripts: one for `ip -batch` and then one, of IPv6 rules,
// for `ip -6 -batch`, since a line of a batch cannot say -6 and a rule's
// addresses do not.
func (s *Sim) Batch() (any, six string) { return s.batch.String(), s.rules.String() }

func (s *Sim) printf(format string, args ...any) { fmt.Fprintf(&s.batch, format+"\n", args...) }

// boot makes a fresh network namespace with lo up.
func (s *Sim) boot() {
	s.Host.Links = []routing.Link{{Index: 1, Name: "lo", Loopback: true, Up: true,
		Carrier: true, MTU: 65536}}
	s.addAddr(routing.Addr{Link: "lo", Prefix: netip.MustParsePrefix("127.0.0.1/8"),
		Scope: routing.ScopeHost})
	s.addAddr(routing.Addr{Link: "lo", Prefix: netip.MustParsePrefix("::1/128"),
		Scope: routing.ScopeHost, NoPrefix: true})
	s.Host.Addrs[1].NoPrefix = false // its route is missing, but it is not flagged
	for _, f := range routing.Families {
		s.addRule(rule(f, 0, routing.TableLocal))
		s.addRule(rule(f, 32766, routing.TableMain))
	}
	s.addRule(rule(routing.IPv4, 32767, routing.TableDefault))
	s.printf("link set lo up")
}

func rule(f routing.Family, priority int, table uint32) routing.Rule {
	r := routing.NewRule(f, priority, table)
	r.Protocol = kernel
	return r
}

func (s *Sim) do(words []string) error {
	f := routing.IPv4
	if words[0] == "-6" {
		f, words = routing.IPv6, words[1:]
	}
	if len(words) == 2 && words[0] == "sysctl" {
		return s.sysctl(words[1])
	}
	if len(words) < 3 {
		return fmt.Errorf("unknown command")
	}
	switch words[0] {
	case "tc", "last-hop":
		return lastHop(&s.Host, words)
	case "nft":
		s.Filter += strings.Join(words[1:], " ") + "\n"
		return nil
	case "ruleset":
		r, err := ruleset(words[1], words[2:])
		s.Host.Rulesets = append(s.Host.Rulesets, r)
		return err
	}
	args := words[2:]
	if strings.Contains(strings.Join(args, " "), ":") && f == routing.IPv4 &&
		(words[0] == "route" || words[0] == "rule") {
		return fmt.Errorf("an IPv6 route or rule begins with -6 here")
	}
	switch words[0] + " " + words[1] {
	case "link add":
		return s.linkAdd(args)
	case "link set":
		return s.linkSet(args)
	case "addr add":
		return s.addrAdd(args)
	case "neigh add":
		return s.neighAdd(args)
	case "route add", "route append", "route replace", "route del":
		return s.route(f, words[1], args)
	case "rule add", "rule del":
		return s.rule(f, words[1], args)
	}
	if words[0] == "lease" && len(words) == 4 {
		return s.lease(words[1], words[2], words[3])
	}
	return fmt.Errorf("unknown command")
}

func (s *Sim) sysctl(setting string) error {
	key, value, ok := strings.Cut(setting, "=")
	key, net := strings.CutPrefix(key, "net.")
	if !ok || !net {
		return fmt.Errorf("want net.KEY=VALUE")
	}
	s.Host.Sysctls[key] = value
	return nil
}

func (s *Sim) lease(link, gateway, client string) error {
	a, err := netip.ParseAddr(gateway)
	if err != nil {
		return err
	}
	s.Host.Leases = append(s.Host.Leases, routing.Lease{Link: link, Gateway: a, Client: client})
	return nil
}

func ruleset(family string, said []string) (r routing.Ruleset, err error) {
	i := slices.IndexFunc(routing.Families[:],
		func(f routing.Family) bool { return f.String() == family })
	if i < 0 {
		return r, fmt.Errorf("want IPv4 or IPv6")
	}
	r = routing.Ruleset{Family: routing.Families[i], Lookup: strings.Join(said, " ")}
	if said[0] == "unread" {
		r.Lookup, r.Unread = "", strings.Join(said[1:], " ")
	}
	return r, nil
}

// options reads KEY VALUE pairs and lone words into a map; a lone word has the
// value "". The known words have a space between them.
func options(words []string, pairs, lone string) (map[string]string, error) {
	m := map[string]string{}
	for len(words) > 0 {
		key, value := words[0], ""
		words = words[1:]
		switch {
		case slices.Contains(strings.Fields(lone), key):
		case !slices.Contains(strings.Fields(pairs), key):
			return nil, fmt.Errorf("unknown option %s", key)
		case len(words) == 0:
			return nil, fmt.Errorf("nothing after %s", key)
		default:
			value, words = words[0], words[1:]
		}
		m[key] = value
	}
	return m, nil
}

func (s *Sim) neighAdd(args []string) error {
	o, err := options(args[1:], "dev lladdr", "router")
	if err != nil {
		return err
	}
	a, err := netip.ParseAddr(args[0])
	if err != nil {
		return err
	}
	_, router := o["router"]
	mac := cmp.Or(o["lladdr"], "02:00:00:00:00:01")
	s.Host.Neighs = append(s.Host.Neighs, routing.Neigh{Link: o["dev"], Addr: a, Router: router,
		MAC: mac, State: "PERMANENT"})
	flag := ""
	if router {
		flag = " router"
	}
	s.printf("neigh add %s dev %s lladdr %s nud permanent%s", a, o["dev"], mac, flag)
	return nil
}

func (s *Sim) rule(f routing.Family, verb string, args []string) error {
	priority := slices.ContainsFunc(args, func(w string) bool {
		return w == "pref" || w == "priority"
	})
	if !priority {
		args = append([]string{"pref", strconv.Itoa(s.freePriority(f))}, args...)
	}
	r, err := routing.ParseRule(f, strings.Join(args, " "))
	if err != nil {
		return err
	}
	text := r.Args()
	if !priority {
		// the kernel chooses as freePriority does
		_, text, _ = strings.Cut(strings.TrimPrefix(text, "pref "), " ")
	}
	if f == routing.IPv6 {
		fmt.Fprintf(&s.rules, "rule %s %s\n", verb, text)
	} else {
		s.printf("rule %s %s", verb, text)
	}
	if verb == "add" {
		if slices.Contains(s.Host.Rules, r) {
			return fmt.Errorf("there is such a rule already")
		}
		s.addRule(r)
		return nil
	}
	i := slices.IndexFunc(s.Host.Rules, func(x routing.Rule) bool {
		x.Protocol = r.Protocol
		return x == r
	})
	if i < 0 {
		return fmt.Errorf("no such rule")
	}
	s.Host.Rules = slices.Delete(s.Host.Rules, i, i+1)
	return nil
}

// freePriority returns the priority of a rule that is added without one, as the
// kernel's fib_default_rule_pref does: one smaller than the second rule's.
func (s *Sim) freePriority(f routing.Family) int {
	n := 0
	for _, r := range s.Host.Rules {
		if r.Family != f {
			continue
		}
		if n++; n == 2 && r.Priority > 0 {
			return r.Priority - 1
		}
	}
	return 0
}

// addRule puts a rule behind those of its priority.
func (s *Sim) addRule(r routing.Rule) {
	i := slices.IndexFunc(s.Host.Rules, func(x routing.Rule) bool {
		return x.Family > r.Family || x.Family == r.Family && x.Priority > r.Priority
	})
	if i < 0 {
		i = len(s.Host.Rules)
	}
	s.Host.Rules = slices.Insert(s.Host.Rules, i, r)
}

// Drop removes from a host that was read in a namespace made by Batch what a
// simulated one does not have: veth peers, and multicast and anycast routes of
// table local.
func Drop(h routing.Host) routing.Host {
	peer := func(link string) bool { return strings.HasPrefix(link, "p-") }
	h.Links = slices.DeleteFunc(slices.Clone(h.Links), func(l routing.Link) bool {
		return peer(l.Name)
	})
	h.Addrs = slices.DeleteFunc(slices.Clone(h.Addrs), func(a routing.Addr) bool {
		return peer(a.Link)
	})
	h.Neighs = slices.DeleteFunc(slices.Clone(h.Neighs), func(n routing.Neigh) bool {
		return peer(n.Link)
	})
	h.Routes = slices.DeleteFunc(slices.Clone(h.Routes), func(r routing.Route) bool {
		return r.Type == routing.Multicast || r.Type == routing.Anycast ||
			len(r.Hops) > 0 && peer(r.Hops[0].Link)
	})
	return h
}
