package routing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Examine returns what is wrong with a host as it is, or will be: the findings
// of the plan except for those about the changes alone, and what it finds in
// rules, settings and numbers. The plan is Build's for this host, with the same
// binds and policy. A healthy host has no findings. The result is sorted.
func Examine(h Host, p Plan, binds []Bind, policy Policy) []Finding {
	e := examiner{host: h, plan: p, policy: policy, own: Owned(h, policy.Numbers)}
	for _, f := range Families {
		e.localOrder(f)
		e.vrfRules(f)
	}
	e.sharedSubnets()
	e.udpBug()
	e.takenNumbers()
	e.staleTables()
	e.keepalived()
	for _, b := range binds {
		e.transparent(b)
		e.bound(b)
	}
	found := e.findings
	for _, f := range p.Findings {
		if f.Severity != Info && f.Code != "overrides-rule" &&
			!slices.ContainsFunc(found, func(x Finding) bool { return x.explains(f) }) {
			e.find(f)
		}
	}
	return uniqueFindings(e.findings)
}

// examiner holds what Examine works on. host includes what lasthop owns.
type examiner struct {
	host   Host
	plan   Plan
	policy Policy
	own    State
	findings
}

// explains reports whether a finding of the plan follows from this one, which
// is more precise.
func (f Finding) explains(p Finding) bool {
	switch f.Code {
	case "keepalived-rules":
		return p.Code == "shadowed" && p.Origin == f.Origin
	case "local-order", "l3mdev":
		return p.Code == "shadowed" && p.Subject == f.Subject && p.Origin == ""
	}
	return false
}

// ahead reports whether a rule of lasthop stands in front of a priority.
func (e *examiner) ahead(f Family, priority int) bool {
	return slices.ContainsFunc(e.own.Rules, func(r Rule) bool {
		return r.Family == f && r.Priority < priority
	})
}

// first returns the lowest priority of a rule of lasthop, 0 if there is none.
func (e *examiner) first(f Family) int {
	for _, r := range e.own.Rules { // sorted
		if r.Family == f {
			return r.Priority
		}
	}
	return 0
}

// tooFar reports whether the plan found no place for lasthop's rules because
// the rule `local` or the rule of VRFs stands at too high a priority.
func (e *examiner) tooFar(r Rule) bool {
	return slices.ContainsFunc(e.plan.Findings, func(p Finding) bool {
		return p.Code == "shadowed" && p.Subject == r.Family.String() && p.Origin == ""
	}) &&
		!slices.ContainsFunc(e.host.Rules, func(x Rule) bool {
			return x.Family == r.Family && x.goesFirst() && x.Priority > r.Priority
		})
}

// localOrder reports where `lookup local` stands. The kernel puts it at 0;
// programs that make VRFs, and some CNIs, move it. Behind a rule of lasthop it
// comes too late: packets between addresses of the host would leave the host.
func (e *examiner) localOrder(f Family) {
	at := slices.IndexFunc(e.host.Rules, func(r Rule) bool {
		return r.Family == f && standard(r) && r.Table == TableLocal
	})
	if at < 0 {
		if slices.ContainsFunc(e.host.Rules, func(r Rule) bool { return r.Family == f }) {
			e.find(Error.Finding("local-order", f.String(), "there is no %s rule "+
				"`lookup local`: the kernel does not recognize the host's own "+
				"addresses", f).
				Advise("put it back: %s rule add pref 0 lookup local", ip(f)))
		}
		return
	}
	r := e.host.Rules[at]
	what, advice, grave := "", "put it back", true
	switch {
	case r.Priority == 0:
		return
	case e.ahead(f, r.Priority):
		what = "behind lasthop's rules: packets between the host's own addresses leave " +
			"by an uplink"
	case e.tooFar(r):
		what = "which leaves no room for lasthop's rules behind it: lasthop installs none"
	default:
		advice, grave = "if no other program needs it there", false
		what = "not at 0: a rule in front of it also decides about packets between the " +
			"host's own addresses; lasthop's rules are behind it"
	}
	finding := Error.Finding("local-order", f.String(), "`lookup local` has priority %d, %s",
		r.Priority, what).Advise("%s: %s rule add pref 0 lookup local, then %s",
		advice, ip(f), r.deletion()).At(r.String())
	if !grave {
		finding.Severity = Info
	}
	e.find(finding)
}

// vrfRules reports where the rule of VRFs stands. It must come before any rule
// of lasthop, which would otherwise answer for a socket in a VRF, too.
func (e *examiner) vrfRules(f Family) {
	at := slices.IndexFunc(e.host.Rules, func(r Rule) bool {
		return r.Family == f && r.Opaque == l3mdev
	})
	if at < 0 {
		return
	}
	r := e.host.Rules[at]
	var finding Finding
	switch {
	case e.ahead(f, r.Priority):
		finding = Error.Finding("l3mdev", f.String(), "the kernel's l3mdev rule for "+
			"VRFs has priority %d, behind lasthop's rules, which then answer for "+
			"sockets in a VRF", r.Priority).
			Advise("move lasthop's rules behind it: lasthop apply")
	case e.tooFar(r):
		finding = Error.Finding("l3mdev", f.String(), "the kernel's l3mdev rule for "+
			"VRFs has priority %d, which leaves no room for lasthop's rules behind "+
			"it: lasthop installs none",
			r.Priority).Advise("give the rule the kernel's priority: %s rule add "+
			"pref 1000 l3mdev, then delete the old one", ip(f))
	default:
		finding = Info.Finding("l3mdev", f.String(), "VRFs are in use: the l3mdev rule "+
			"at %d routes what their sockets send, in front of lasthop's "+
			"rules", r.Priority).
			Advise("do nothing, unless NGINX listens in a VRF: lasthop leaves such " +
				"listeners alone (status `off`)")
	}
	e.find(finding.At(r.String()))
}

// attached is an IPv4 subnet that a link is in.
type attached struct {
	link   string
	prefix netip.Prefix
}

// borrowed returns an IPv4 address that neighbours ask for on another link than
// its own, such as a VIP on lo; nil if there is none. With arp_ignore=1 the
// host would not answer for it.
func (e *examiner) borrowed(subnets []attached) *Addr {
	for i, a := range e.host.Addrs {
		asked, own := false, false
		for _, s := range subnets {
			asked = asked || s.prefix.Contains(a.Prefix.Addr())
			own = own || s.link == a.Link && s.prefix.Contains(a.Prefix.Addr())
		}
		if asked && !own {
			return &e.host.Addrs[i]
		}
	}
	return nil
}

// sharedSubnets finds pairs of links in one IPv4 subnet that ARP does not keep
// apart: each link answers for the addresses of the other, so a request comes
// in by one link and its reply leaves by the other.
func (e *examiner) sharedSubnets() {
	var all []attached
	for _, a := range e.host.Addrs {
		i := slices.IndexFunc(e.host.Links, func(l Link) bool { return l.Name == a.Link })
		p := a.Connected()
		if i >= 0 && asksByARP(e.host.Links[i]) && p.Addr().Is4() && !p.IsSingleIP() {
			all = appendOnce(all, attached{a.Link, p})
		}
	}
	slices.SortFunc(all, func(a, b attached) int {
		return cmp.Or(cmp.Compare(a.link, b.link), comparePrefix(a.prefix, b.prefix))
	})
	for i, a := range all {
		for _, b := range all[i+1:] {
			if a.link != b.link && a.prefix.Overlaps(b.prefix) &&
				e.listensIn(a.prefix) {
				e.flux(a.link, b.link, a.prefix, e.borrowed(all))
			}
		}
	}
}

// asksByARP reports whether neighbours can find the link's addresses by ARP.
func asksByARP(l Link) bool {
	return l.Up && !l.Loopback && !l.PointToPoint && (!l.hostLocal() || l.Kind == "bridge")
}

func (e *examiner) listensIn(p netip.Prefix) bool {
	return slices.ContainsFunc(e.plan.Outcomes, func(o Outcome) bool {
		return p.Contains(o.Addr)
	})
}

// flux judges two links in one subnet. With arp_ignore 1 or 2 a link answers
// only for its own addresses; arp_filter does the same with lasthop's rules. A
// link asks with its own address only if arp_announce is 2. flux concludes
// nothing from a setting that was not read.
func (e *examiner) flux(a, b string, p netip.Prefix, borrowed *Addr) {
	var loose []string
	for _, link := range []string{a, b} {
		ignore, known := e.host.conf(link, "arp_ignore")
		filter, _ := e.host.conf(link, "arp_filter")
		if known && (ignore < 1 || ignore > 2) && ignore != 8 && filter == 0 {
			loose = appendOnce(loose, "net.ipv4.conf.all.arp_ignore=1")
		}
		if announce, known := e.host.conf(link, "arp_announce"); known && announce != 2 {
			loose = appendOnce(loose, "net.ipv4.conf.all.arp_announce=2")
		}
	}
	if len(loose) == 0 {
		return
	}
	slices.Sort(loose)
	remedy := "let each link answer for its own addresses: sysctl " +
		"-w " + strings.Join(loose, " ")
	if borrowed != nil && strings.Contains(remedy, "arp_ignore") {
		remedy = fmt.Sprintf("take one of them out of the subnet; do not set "+
			"arp_ignore: the kernel would not answer for %s, which is on "+
			"%s", borrowed.Prefix.Addr(),
			borrowed.Link)
	}
	e.find(Warning.Finding("arp-flux", a+" "+b, "%s and %s are both in %s, and the kernel "+
		"answers ARP on each for the addresses of both: requests may come in by one "+
		"link and replies leave by the other", a, b, p).Advise("%s", remedy))
}

// udpBug names the kernels in which conntrack changes a port of a UDP flow
// between two ends of one host, if policy routing sends the flow out and in
// again (bugzilla.netfilter.org 1795; fixed by Linux 50d9ce9679dd).
func (e *examiner) udpBug() {
	udp := slices.ContainsFunc(e.plan.Outcomes, func(o Outcome) bool {
		return o.Transport == UDP
	})
	if !udp || len(e.plan.State.Rules) == 0 || !losesLocalUDP(e.host.Kernel) {
		return
	}
	e.find(Warning.Finding("udp-kernel-bug", "Linux "+e.host.Kernel,
		"kernels from 6.6.57 to 6.12.33 may lose UDP between two ends of this host if "+
			"policy routing and conntrack are in use; lasthop cannot tell whether "+
			"your distribution backported the fix").
		Advise("run Linux 6.6.94, 6.12.34 or later, or ask your distribution whether " +
			"its kernel has commit 50d9ce9679dd"))
}

// losesLocalUDP compares `uname -r`. The fault came to the 6.6 series with
// 6.6.57 and left it with 6.6.94. 6.12.34 is the first later release without
// it.
func losesLocalUDP(release string) bool {
	var v [3]int
	for i, part := range strings.SplitN(release, ".", 3) {
		if n := strings.IndexFunc(part, func(r rune) bool {
			return r < '0' || r > '9'
		}); n >= 0 {
			part = part[:n]
		}
		v[i], _ = strconv.Atoi(part)
	}
	if v[0] == 6 && v[1] == 6 {
		return 57 <= v[2] && v[2] < 94
	}
	return slices.Compare(v[:], []int{6, 7, 0}) >= 0 &&
		slices.Compare(v[:], []int{6, 12, 34}) < 0
}

// takenNumbers finds foreign objects with lasthop's numbers. lasthop evades
// them, but an administrator that clears the other program's numbers also
// removes lasthop's objects.
func (e *examiner) takenNumbers() {
	n := e.policy.Numbers
	seen := map[uint32]bool{}
	for _, r := range e.host.Routes {
		if n.OwnsTable(r.Table) && r.Protocol != n.Protocol && !seen[r.Table] {
			seen[r.Table] = true
			e.find(Warning.Finding("numbers-taken", fmt.Sprintf("table %d", r.Table),
				"another program has a route in a table of lasthop's range: "+
					"lasthop no longer uses the table, but replies that a "+
					"rule sends to it take that route").
				Advise("give the route a table outside %d-%d", n.TableFirst,
					n.TableLast).At(r.String()))
		}
	}
	for _, r := range e.host.Rules {
		// where the kernel puts a rule that is added without a priority
		inFront := r.Priority+1 == e.first(r.Family)
		if n.Base <= r.Priority && r.Priority < n.Base+n.Block &&
			r.Protocol != n.Protocol && !inFront {
			e.find(Warning.Finding("numbers-taken", fmt.Sprintf("priority %d",
				r.Priority), "another program has a rule among lasthop's "+
				"priorities: lasthop avoids that number, but a program that "+
				"clears the range removes both").
				Advise("give the rule a priority outside %d-%d", n.Base,
					n.Base+n.Block-1).At(r.String()))
		}
	}
	for _, l := range e.host.Links {
		if l.Group == n.Group && e.strange(l) {
			e.find(Warning.Finding("numbers-taken", l.Name, "%s is in lasthop's "+
				"link group %d but is no uplink: replies to clients behind it "+
				"leave by an uplink", l.Name, n.Group).
				Advise("%s", linkDefault(l.Name)).
				At(LinkGroup{l.Name, l.Group}.String()))
		}
	}
}

// strange reports whether a link is in lasthop's group and is no uplink, now or
// a moment ago.
func (e *examiner) strange(l Link) bool {
	g := LinkGroup{l.Name, l.Group}
	return l.Up && len(e.plan.State.Groups) > 0 && slices.Contains(e.own.Groups, g) &&
		!slices.Contains(e.plan.State.Groups, g) &&
		!slices.ContainsFunc(e.own.Routes, func(r Route) bool { return r.uses(l.Name) })
}

// keepalivedProtocols are the protocols of keepalived's routes and rules:
// RTPROT_KEEPALIVED, and the one that it used before it had that number.
var keepalivedProtocols = []uint8{18, 112}

// keepalived finds virtual_rules for an address that a path of lasthop covers.
// lasthop never touches them: keepalived treats the loss of one as a failure,
// and fails over.
func (e *examiner) keepalived() {
	for _, r := range e.host.Rules {
		if !slices.Contains(keepalivedProtocols, r.Protocol) ||
			r.From.Bits() <= 0 || r.Not {
			continue
		}
		i := slices.IndexFunc(e.plan.Outcomes, func(o Outcome) bool {
			return r.From.Contains(o.Addr) && o.Status != Off && o.Status != LocalOnly
		})
		if i < 0 {
			continue
		}
		addr := e.plan.Outcomes[i].Addr
		order := "lasthop's rules answer in front of it"
		if !e.ahead(r.Family, r.Priority) {
			order = "it answers in front of lasthop's rules"
		}
		e.find(Warning.Finding("keepalived-rules", addr.String(), "keepalived also has "+
			"a rule for replies of %s: two programs decide where they leave, and "+
			"%s", addr,
			order).Advise("remove it from virtual_rules in keepalived.conf (do not "+
			"use ip rule del: keepalived would fail over), or: --return %s=off", addr).
			At(r.String()))
	}
}

// transparent finds a *_bind with the client's address if the host does not
// accept the replies of upstreams. They are addressed to the client, so a rule
// by mark must lead them to a table in which every address is local.
func (e *examiner) transparent(b Bind) {
	if !b.Transparent {
		return
	}
	wanted := map[Family]bool{}
	for _, u := range b.Upstreams {
		wanted[FamilyOf(u)] = true
	}
	var missing []string
	for _, f := range Families {
		if !e.takesIn(f) && (wanted[f] || len(wanted) == 0) {
			missing = append(missing, f.String())
		}
	}
	if len(missing) == 0 || len(wanted) == 0 && len(missing) < len(Families) {
		return
	}
	e.find(Warning.Finding("bind-transparent", strings.Join(missing, " and "),
		"upstreams answer to the client's own address, and no rule delivers these "+
			"packets to NGINX: such connections get no answer").
		Advise("mark the answers with nftables, then: ip rule add fwmark 1 lookup 100; " +
			"ip route add local 0.0.0.0/0 dev lo table 100 (ip -6 with ::/0)").
		At(b.Origin))
}

// bound finds a *_bind to an address that a path covers. If that changes the
// way to upstreams, the plan has said so.
func (e *examiner) bound(b Bind) {
	onPath := slices.ContainsFunc(e.plan.Outcomes, func(o Outcome) bool {
		return o.Addr == b.Addr && (o.Status == Ready || o.Status == Armed)
	})
	moves := slices.ContainsFunc(e.plan.Findings, func(f Finding) bool {
		return f.Code == "bind-moves" && f.Subject == b.Addr.String()
	})
	if b.Transparent || !onPath || moves {
		return
	}
	e.find(Info.Finding("bind-to-vip", b.Addr.String(),
		"NGINX also opens connections from %s: they take its path, and they fail while "+
			"the host does not have the address", b.Addr).
		Advise("bind to an address that stays on this host and that NGINX does not " +
			"listen on").
		At(b.Origin))
}

// takesIn reports whether a rule leads marked packets to a table in which every
// address is local.
func (e *examiner) takesIn(f Family) bool {
	return slices.ContainsFunc(e.host.Rules, func(r Rule) bool {
		return r.Family == f && r.Action == ToTable && r.Mark != 0 &&
			slices.ContainsFunc(e.host.Routes, func(x Route) bool {
				return x.Table == r.Table && x.Family() == f && x.Type == Local &&
					x.IsDefault()
			})
	})
}
