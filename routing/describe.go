package routing

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// describer says what a plan means: for each listener, and in findings that
// need the final state.
type describer struct {
	*draft
	after, ideal *FIB
}

// describe sets before and after of every outcome, marks those that a foreign
// rule keeps from their path, and finds what else the layout changes.
func (d *draft) describe(l *layout, after, ideal *FIB, binds []Bind) {
	d.findings = append(d.findings, l.findings...)
	w := describer{d, after, ideal}
	w.outcomes()
	w.wildcards()
	w.arpSources()
	w.outsideRange()
	w.elsewhere()
	w.routed()
	if len(l.state.Rules) == 0 {
		return
	}
	learned{&w, l.state}.tell()
	for _, bind := range binds {
		w.bindMoves(bind)
	}
	w.sourceHints()
	w.forwarder()
	w.rulesets(l.state.Rules)
	w.reversePath()
	w.strictRouters()
	for _, f := range Families {
		if w.fib.rejects(f, TableMain) {
			w.find(Info.Finding("reject-default", f.String(),
				"table main has a reject route as wide as a default for %s, so "+
					"lasthop copies main's specific routes through other "+
					"links into the tables of the paths", f).
				Advise("after you add a route to main, run lasthop apply again " +
					"(the daemon does it by itself)"))
		}
	}
}

func (w *describer) outcomes() {
	replies := RepliesOn(w.host)
	ways := replies.ways(w.fib, w.after, w.ideal)
	for i := range w.rows {
		r := &w.rows[i]
		if r.Addr.IsLoopback() || r.Addr.IsLinkLocalUnicast() {
			continue
		}
		found := ways(r.Listener)
		ideal := found[2]
		r.Before, r.After = found[0], found[1]
		if (r.Status == Ready || r.Status == Armed || r.Status == Unchanged) &&
			!sameWay(r.After, ideal) {
			r.Status, r.Reason = Unresolved, "shadowed"
		}
		w.stands(r, replies.Far(r.Listener))
	}
}

// Standing holds the ways of replies with what lasthop has installed now.
type Standing struct {
	Outcomes []Way // of each outcome of the plan, towards a client behind the gateways
	Moves    []Way // of each move of the plan
}

// Standing returns how replies leave now.
func (d Decision) Standing() Standing {
	now := NewFIB(With(d.foreign, d.Owned))
	ways := RepliesOn(d.foreign).ways(now)
	outcomes := mapped(d.Plan.Outcomes, func(o Outcome) Way {
		if o.Addr.IsLoopback() || o.Addr.IsLinkLocalUnicast() {
			return Way{}
		}
		return ways(o.Listener)[0]
	})
	return Standing{outcomes,
		mapped(d.Plan.Moves, func(m Move) Way { return now.Way(m.Reply) })}
}

// arpSources names listeners whose replies leave by another link than their
// address is on, if the kernel asks for the next hop there with that address as
// the sender (arp_announce 0). A router that checks sources does not answer
// such a request, and no reply leaves.
func (w *describer) arpSources() {
	told := map[[2]string]bool{}
	for _, r := range w.rows {
		by := r.After.Link
		if !r.Addr.Is4() || r.Link == "" || by == "" || by == r.Link ||
			r.Status == LocalOnly || r.Status == Unresolved ||
			r.Reason == "wildcard-only" ||
			r.After.Type != Unicast || !asksByARP(w.links[by]) ||
			told[[2]string{r.Link, by}] {
			continue
		}
		if n, known := w.host.conf(by, "arp_announce"); !known || n > 0 {
			continue
		}
		told[[2]string{r.Link, by}] = true
		w.find(Warning.Finding("arp-source", r.Addr.String(), "replies of %s leave by "+
			"%s, and the kernel sends ARP requests there with this address as the "+
			"sender: a router with strict source checks ignores them, and then no "+
			"reply leaves", r.Addr,
			by).Advise("%s", Sysctl("net/ipv4/conf/"+by+"/arp_announce", 2)))
	}
}

// stands marks a listener whose replies a foreign rule with selectors sends
// elsewhere. lasthop repeats such a rule, and leaves it in place.
func (w *describer) stands(r *row, q Query) {
	if r.path == nil || r.Status == Unresolved || r.After.Link == r.path.link {
		return
	}
	rule := w.fib.answer(q).ended
	if rule == nil || standard(*rule) {
		return
	}
	r.Status, r.Reason = Unresolved, "shadowed"
	f := Warning.Finding("shadowed", r.Addr.String(), "this rule sends replies of %s by %s, "+
		"but requests come in by %s; the rule has selectors, so lasthop leaves it in "+
		"place", r.Addr, r.After, r.path.name()).
		Advise("if the rule is wrong, delete it: %s", rule.deletion()).At(rule.String())
	if rule.byHand() { // the flag decides about no other rule
		f.Hint += "; or name the interface: " +
			Flag("address", r.Addr.String()+"="+r.path.link)
	}
	w.find(f)
}

// wildcards lists, for each wildcard listener, the addresses that move. Rules
// are by address, so every program that listens on the address moves.
func (w *describer) wildcards() {
	moved, origins := map[string][]string{}, map[string]string{}
	for i := range w.rows {
		r := &w.rows[i]
		if r.wild && r.path != nil && r.path.needed {
			if moved[r.Listen] == nil {
				origins[r.Listen] = origin(r)
			}
			moved[r.Listen] = appendOnce(moved[r.Listen], r.Addr.String())
		}
	}
	for listen, addrs := range moved {
		w.find(Info.Finding("wildcard-covers", listen, "NGINX listens on a wildcard, so "+
			"replies of all programs that listen on %s move, not only those of "+
			"NGINX", Some(addrs, 8)).
			At(origins[listen]))
	}
}

// bindMoves reports which upstreams a *_bind reaches another way from now on.
func (w *describer) bindMoves(bind Bind) {
	if !bind.Addr.IsValid() || bind.Transparent {
		return
	}
	upstreams := bind.Upstreams
	if len(upstreams) == 0 {
		upstreams = []netip.Addr{OffLink(w.host, FamilyOf(bind.Addr))}
	}
	for _, u := range upstreams {
		if FamilyOf(u) != FamilyOf(bind.Addr) {
			continue
		}
		q := Query{Src: bind.Addr, Dst: u}
		x, y := w.fib.Lookup(q), w.after.Lookup(q).fallback()
		if sameAnswer(x, y) {
			continue
		}
		target := u.String()
		if len(bind.Upstreams) == 0 {
			target = "upstreams behind a router"
		}
		w.find(Warning.Finding("bind-moves", bind.Addr.String(),
			"connections that NGINX opens from %s to %s move: %s -> "+
				"%s", bind.Addr, target, x.Way, y.Way).
			Advise("to keep the present path: --direct %s",
				netip.PrefixFrom(u, u.BitLen())).At(bind.Origin))
	}
}

// sourceHints finds routes of main that give the host's own connections a
// source within a cover. The route names the source, or the kernel borrows it
// because the route's link has no address. The kernel looks up a connection
// again once it has that source, and takes the path, already for the SYN.
func (w *describer) sourceHints() {
	for _, r := range w.host.Routes {
		if r.Table != TableMain || r.Type != Unicast || r.Protocol == protocolKernel {
			continue
		}
		src, why := r.Src, ""
		if !src.IsValid() {
			src, why = w.borrowed(r), ", which the kernel borrows because the link "+
				"has no address"
		}
		if !src.IsValid() {
			continue
		}
		dst := inside(r.Dst, r.Dst.Addr().Next(), w.assigned)
		if r.IsDefault() {
			dst = OffLink(w.host, r.Family())
		}
		q := Query{Src: src, Dst: dst}
		x, y := w.fib.answer(q), w.after.answer(q).fallback()
		if sameAnswer(x, y) || x.Route == nil ||
			x.Route.RouteKey != r.RouteKey || leaveBy(y, r.Hops) {
			continue
		}
		advice := "give the route another src, or remove its src"
		switch {
		case why == "":
		case isWide(r.Dst):
			advice = "give the route a src that is no listener's"
		default:
			advice = "give the route a src that is no listener's, or keep its way: " +
				"--direct " + r.Dst.String()
		}
		w.find(Warning.Finding("src-hint", src.String(), "connections that this host "+
			"opens by this route have the source %s%s: they will leave by %s instead "+
			"of %s", src, why, y.Way, x.Way).Advise("%s", advice).At(r.String()))
	}
}

// borrowed returns the address that the kernel takes as the source of a route
// whose link has no address of the family (inet_select_addr): the first global
// address of the other links, in the order of their numbers. It returns the
// zero Addr if the link has an address, or if no link has one.
func (w *describer) borrowed(r Route) (src netip.Addr) {
	if len(r.Hops) != 1 {
		return src
	}
	at := 0
	for _, a := range w.host.Addrs {
		addr, l := a.Prefix.Addr(), w.links[a.Link]
		if FamilyOf(addr) != r.Family() || a.Scope >= ScopeLink || addr.IsLoopback() {
			continue
		}
		if l.Name == r.Hops[0].Link {
			return netip.Addr{}
		}
		if !src.IsValid() || l.Index < at {
			src, at = addr, l.Index
		}
	}
	return src
}

// leaveBy reports whether a lookup ends at the only one of the hops.
func leaveBy(t Trace, hops []Hop) bool {
	return len(t.Ends) == 1 && len(hops) == 1 && t.Way.Type == Unicast &&
		t.Way.Link == hops[0].Link && t.Way.Via == hops[0].Via
}

// forwarder reports that forwarded packets keep their way, and that a path
// would answer the hosts on the LAN of an uplink that use this host as their
// router.
func (w *describer) forwarder() {
	for _, f := range Families {
		key := "ipv4.ip_forward"
		if f == IPv6 {
			key = "ipv6.conf.all.forwarding"
		}
		lans := 0
		for _, link := range w.host.Links {
			if len(w.connected[linkFamily{link.Name, f}]) > 0 && !link.Loopback {
				lans++
			}
		}
		if w.host.Sysctls[key] != "1" || lans <= 1 {
			continue
		}
		note := Info.Finding("forwarder", f.String(), "the host forwards %s between %d "+
			"LANs; lasthop does not touch forwarded packets", f, lans)
		if near := w.servedLANs(f); len(near) > 0 {
			note.Message += fmt.Sprintf("; but hosts of %s that use this host as "+
				"their router will get NGINX's replies by the gateway of "+
				"another LAN",
				Some(near, 4))
			note = note.Advise("if such hosts exist: --direct %s, or --return "+
				"IF=main-first for the link of the listeners", near[0])
		}
		w.find(note)
		w.unservedLANs(f)
	}
}

// unservedLANs names LANs whose hosts may have this host as their only router,
// and get replies by another path from now on: the only router that lasthop
// knows there is that of a single address.
func (w *describer) unservedLANs(f Family) {
	for _, m := range w.moves {
		link := m.Before.Link
		if FamilyOf(m.Clients[0].Addr()) != f || m.Class != ClassOtherLAN ||
			m.Before.Type != Unicast || m.Before.Via.IsValid() ||
			!w.servesOne(linkFamily{link, f}) {
			continue
		}
		var lans, flags []string
		for _, p := range m.Clients {
			lans = append(lans, p.String())
			flags = append(flags, Flag("direct", p.String()))
		}
		w.find(Warning.Finding("forwarder", link, "this host forwards %s, and the only "+
			"router that lasthop sees on %s serves a single address: this host "+
			"itself may be the router of the hosts of %s, and replies of %s to them "+
			"will leave by %s", f, link, Some(lans, 4), m.Link, m.After).
			Advise("if this host is their router: %s", strings.Join(flags, " ")))
	}
}

// servesOne reports whether only foreign rules for a single address name a
// gateway of a link.
func (w *describer) servesOne(key linkFamily) bool {
	return w.isUplink(key.link, key.family) &&
		!slices.ContainsFunc(w.uplinks[key], func(g gateway) bool {
			return !g.of.IsValid() &&
				(g.source != FromRule || !g.prefix.IsSingleIP())
		})
}

// rulesets reports what the packet filter means for the covers.
func (w *describer) rulesets(rules []Rule) {
	for _, f := range Families {
		r := w.host.ruleset(f)
		if !w.host.Forwards(f) ||
			!slices.ContainsFunc(rules, func(x Rule) bool { return x.Family == f }) {
			continue
		}
		if r.Lookup != "" {
			w.find(Info.Finding("exact-cover", f.String(), "the host forwards %s, "+
				"and its packet filter looks up routes for forwarded packets as "+
				"if the host had sent them (%s): lasthop's rules match the "+
				"listeners' addresses alone", f, r.Lookup))
		}
		if r.Unread != "" {
			w.find(Info.Finding("rulesets-unread", f.String(), "the host forwards "+
				"%s, and lasthop did not read the rules of its packet filter "+
				"(%s): with them, the plan may be different", f, r.Unread).
				Advise("run plan or capture as root"))
		}
	}
}

// servedLANs returns the LANs whose hosts the path of another link answers from
// now on.
func (w *describer) servedLANs(f Family) []string {
	var out []string
	for _, m := range w.moves {
		for _, p := range m.Clients {
			if m.Class == ClassOtherLAN && FamilyOf(p.Addr()) == f &&
				m.Before.Type == Unicast && !m.Before.Via.IsValid() {
				out = appendOnce(out, p.String())
			}
		}
	}
	return out
}

// reversePath finds uplinks on which strict rp_filter drops requests, because
// the replies would leave elsewhere.
func (w *describer) reversePath() {
	told := map[string]bool{}
	for _, r := range w.rows {
		if r.Link == "" || told[r.Link] || FamilyOf(r.Addr) != IPv4 ||
			r.After.Link == r.Link || r.Status == LocalOnly || r.Status == Armed {
			continue
		}
		if !w.strict(r.Link, IPv4) {
			continue
		}
		told[r.Link] = true
		w.find(Warning.Finding("rp-filter", r.Link,
			"strict rp_filter on %s drops requests to %s, because replies leave by "+
				"%s", r.Link, r.Addr, r.After).
			Advise("make the replies leave by the interface of the requests, or: %s",
				Sysctl("net/ipv4/conf/"+r.Link+"/rp_filter", 2)))
	}
}

// outsideRange finds objects with lasthop's protocol outside lasthop's ranges.
// lasthop leaves them alone.
func (w *describer) outsideRange() {
	protocol := w.policy.Numbers.Protocol
	add := func(object fmt.Stringer) {
		w.find(Warning.Finding("outside-range", fmt.Sprintf("protocol %d", protocol),
			"this rule or route has lasthop's protocol, but a table or priority "+
				"outside of lasthop's ranges: lasthop does not touch it").
			Advise("if it is a leftover, delete it by hand").At(object.String()))
	}
	for _, r := range w.host.Rules {
		if r.Protocol == protocol {
			add(r)
		}
	}
	for _, r := range w.host.Routes {
		if r.Protocol == protocol {
			add(r)
		}
	}
}
