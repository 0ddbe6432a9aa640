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

// describe sets before and after of every outcome, marks those that another
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
				"main ends %s lookups with a reject route as wide as a default: "+
					"its specific routes through other links are copied "+
					"into the paths' tables", f).
				Advise("routes that are added to main later count from the next " +
					"sync on"))
		}
	}
}

func (w *describer) outcomes() {
	type ends struct{ before, after, ideal Way }
	type class struct { // of sources that are looked up alike
		before, after, ideal netip.Prefix
		reply                Query
	}
	ways, replies := map[class]ends{}, RepliesOn(w.host)
	for i := range w.rows {
		r := &w.rows[i]
		if r.Addr.IsLoopback() || r.Addr.IsLinkLocalUnicast() {
			continue
		}
		q := replies.Far(r.Listener)
		c := class{w.fib.class(q.Src), w.after.class(q.Src), w.ideal.class(q.Src), q}
		c.reply.Src = netip.Addr{}
		e, ok := ways[c]
		if !ok {
			e = ends{w.fib.Way(q), w.after.Way(q), w.ideal.Way(q)}
			ways[c] = e
		}
		r.Before, r.After = e.before, e.after
		if (r.Status == Ready || r.Status == Armed || r.Status == Unchanged) &&
			!sameWay(e.after, e.ideal) {
			r.Status, r.Reason = Unresolved, "shadowed"
		}
		w.stands(r, q)
	}
}

// Standing are the ways of replies with what lasthop has installed now.
type Standing struct {
	Outcomes []Way // of each outcome of the plan, towards a client behind the gateways
	Moves    []Way // of each move of the plan
}

// Standing returns how replies leave now.
func (d Decision) Standing() Standing {
	type class struct { // of sources that are looked up alike
		source netip.Prefix
		reply  Query
	}
	now, ways := NewFIB(With(d.foreign, d.Owned)), map[class]Way{}
	replies := RepliesOn(d.foreign)
	outcomes := mapped(d.Plan.Outcomes, func(o Outcome) Way {
		if o.Addr.IsLoopback() || o.Addr.IsLinkLocalUnicast() {
			return Way{}
		}
		q := replies.Far(o.Listener)
		c := class{now.class(q.Src), q}
		c.reply.Src = netip.Addr{}
		way, ok := ways[c]
		if !ok {
			way = now.Way(q)
			ways[c] = way
		}
		return way
	})
	return Standing{outcomes, mapped(d.Plan.Moves, func(m Move) Way {
		client := m.Clients[0].Addr()
		if next := client.Next(); m.Clients[0].Contains(next) {
			client = next // not the address of the subnet itself
		}
		return now.Way(Query{Src: m.Listeners[0].Addr(), Dst: client})
	})}
}

// arpSources names listeners whose replies leave by another link than the
// address is on, where the kernel asks for the next hop there with that address
// as the sender (arp_announce 0): a router that checks sources does not answer,
// and nothing leaves at all.
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
		w.find(Warning.Finding("arp-source", r.Addr.String(), "replies of %s leave by %s, "+
			"where the kernel asks for the next hop with this address as the sender: "+
			"a router that checks sources does not answer, and no reply leaves", r.Addr,
			by).Advise("%s", Sysctl("net/ipv4/conf/"+by+"/arp_announce", 2)))
	}
}

// stands marks a listener whose replies another rule sends elsewhere, where an
// administrator wrote it for them: it is left to stand.
func (w *describer) stands(r *row, q Query) {
	if r.path == nil || r.Status == Unresolved || r.After.Link == r.path.link {
		return
	}
	rule := w.fib.answer(q).ended
	if rule == nil || standard(*rule) {
		return
	}
	r.Status, r.Reason = Unresolved, "shadowed"
	w.find(Warning.Finding("shadowed", r.Addr.String(), "this rule sends replies of %s by %s, "+
		"and not by %s, which its requests come in by; it was written for them, and is "+
		"left alone", r.Addr, r.After, r.path.name()).
		Advise("if it is wrong, delete it: %s; or decide the link: %s", rule.deletion(),
			Flag("address", r.Addr.String()+"="+r.path.link)).At(rule.String()))
}

// wildcards lists, for each wildcard listener, the addresses that move: rules
// are by address, so all that listens there moves.
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
		w.find(Info.Finding("wildcard-covers", listen, "a wildcard: replies of "+
			"everything that listens on %s move, not of NGINX alone", Some(addrs, 8)).
			At(origins[listen]))
	}
}

// bindMoves says which upstreams a *_bind reaches another way from now on.
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
			target = "upstreams off-link"
		}
		w.find(Warning.Finding("bind-moves", bind.Addr.String(),
			"connections from %s to %s: %s -> %s", bind.Addr, target, x.Way, y.Way).
			Advise("keep the present way: --direct %s",
				netip.PrefixFrom(u, u.BitLen())).At(bind.Origin))
	}
}

// sourceHints finds routes of main by which the host's own connections get a
// source within a cover, said by the route or borrowed where its link has no
// address: their next lookup, with that source, takes the path.
func (w *describer) sourceHints() {
	for _, r := range w.host.Routes {
		if r.Table != TableMain || r.Type != Unicast || r.Protocol == protocolKernel {
			continue
		}
		src, why := r.Src, ""
		if !src.IsValid() {
			src, why = w.borrowed(r), ", which is borrowed, since its link has none"
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
		advice := "give the route another src, or none"
		switch {
		case why == "":
		case isWide(r.Dst):
			advice = "give the route a src that is no listener's"
		default:
			advice = "give the route a src that is no listener's, or keep its way: " +
				"--direct " + r.Dst.String()
		}
		w.find(Warning.Finding("src-hint", src.String(), "the host's own connections "+
			"by this route take the source %s%s; the way of that changes: %s -> %s",
			src, why, x.Way, y.Way).Advise("%s", advice).At(r.String()))
	}
}

// borrowed returns the address that the kernel takes as the source by a route
// whose link has none of the family (inet_select_addr): the first global one of
// the other links, in the order of their numbers. The zero Addr if the link has
// one, or no link has.
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

// forwarder says that forwarded packets keep their way, and that hosts on the
// LAN of an uplink that use this host as their router would be answered by a
// path.
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
			"LANs; forwarded packets are not touched", f, lans)
		if near := w.servedLANs(f); len(near) > 0 {
			note.Message += fmt.Sprintf("; but if hosts of %s use this host as "+
				"their router, they will get replies by another LAN's gateway",
				Some(near, 4))
			note = note.Advise("if they do: --direct %s, or --return IF=main-first "+
				"for the link of the listeners", near[0])
		}
		w.find(note)
		w.unservedLANs(f)
	}
}

// unservedLANs names LANs whose hosts may have this host alone as their router,
// and get replies by another path from now on: the only router that is known
// there is that of a single address.
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
		w.find(Warning.Finding("forwarder", link, "this host forwards %s, and all that it "+
			"knows of a router on %s is that of a single address: it may itself be "+
			"the router of the hosts of %s, and replies of %s to them will leave by "+
			"%s", f, link, Some(lans, 4), m.Link, m.After).
			Advise("if it is: %s", strings.Join(flags, " ")))
	}
}

// servesOne reports whether rules of others for a single address are all that
// names a gateway of a link.
func (w *describer) servesOne(key linkFamily) bool {
	return w.isUplink(key.link, key.family) &&
		!slices.ContainsFunc(w.uplinks[key], func(g gateway) bool {
			return !g.of.IsValid() &&
				(g.source != FromRule || !g.prefix.IsSingleIP())
		})
}

// rulesets says what the packet filter means for the covers.
func (w *describer) rulesets(rules []Rule) {
	for _, f := range Families {
		r := w.host.ruleset(f)
		if !w.host.Forwards(f) ||
			!slices.ContainsFunc(rules, func(x Rule) bool { return x.Family == f }) {
			continue
		}
		if r.Lookup != "" {
			w.find(Info.Finding("exact-cover", f.String(), "the host forwards %s, and "+
				"its packet filter looks up routes for forwarded packets as for "+
				"its own (%s): lasthop's rules are for the listeners' addresses "+
				"alone", f, r.Lookup))
		}
		if r.Unread != "" {
			w.find(Info.Finding("rulesets-unread", f.String(), "the host forwards %s, "+
				"and the rules of its packet filter were not read (%s): the plan "+
				"may be another one where they are", f, r.Unread).
				Advise("plan, or capture, as root"))
		}
	}
}

// servedLANs returns the LANs whose hosts are answered by the path of another
// link from now on.
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

// reversePath finds uplinks where strict rp_filter drops requests, because the
// replies would leave elsewhere.
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
			"strict rp_filter on %s drops requests to %s: its replies leave by "+
				"%s", r.Link, r.Addr, r.After).
			Advise("mend the reply's way, or: %s",
				Sysctl("net/ipv4/conf/"+r.Link+"/rp_filter", 2)))
	}
}

// outsideRange finds objects with our protocol that are not in our ranges: they
// are left alone.
func (w *describer) outsideRange() {
	ours := w.policy.Numbers.Protocol
	add := func(object fmt.Stringer) {
		w.find(Warning.Finding("outside-range", fmt.Sprintf("protocol %d", ours),
			"this has our protocol but is outside our ranges of tables and "+
				"priorities: it is not touched").
			Advise("delete it by hand if it is a leftover").At(object.String()))
	}
	for _, r := range w.host.Rules {
		if r.Protocol == ours {
			add(r)
		}
	}
	for _, r := range w.host.Routes {
		if r.Protocol == ours {
			add(r)
		}
	}
}
