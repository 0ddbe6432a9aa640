package routing

import (
	"fmt"
	"net/netip"
)

// lateFindings are those that need the final state.
func (b *builder) lateFindings(l layout, binds []Bind) {
	b.outsideRange()
	if len(l.state.Rules) == 0 {
		return
	}
	after := NewFIB(With(b.host, l.state))
	for _, bind := range binds {
		b.bindMoves(after, bind)
	}
	b.sourceHints(after)
	b.forwarder()
	b.reversePath()
	for _, f := range Families {
		if b.mainRejects(f) {
			b.find(Finding{Code: "reject-default", Severity: Info, Subject: f.String(),
				Message: fmt.Sprintf("main ends %s lookups with a reject route "+
					"as wide as a default: its specific routes through other "+
					"links are copied into the paths' tables", f),
				Hint: "routes that are added to main later " +
					"count from the next sync on"})
		}
	}
}

// tellHeld says that a path's gateway is known from our own table alone.
func (b *builder) tellHeld(p *path) {
	if p.source != FromHeld {
		return
	}
	via := Way{Type: Unicast, Link: p.link, Via: p.hops[0].Via}
	b.find(Finding{Code: "held-gateway", Severity: Warning, Subject: p.link,
		Message: fmt.Sprintf("no %s gateway is to be seen on %s any more: %s is kept "+
			"from our own table %s", p.family, p.link, via, p.detail),
		Hint: fmt.Sprintf("if it is gone for good: --gateway %s=none; if not, "+
			"pin it: --gateway %s=%s", p.link, p.link, p.hops[0].Via)})
}

// lostClients names routes through tunnels and the like whose clients the path
// will answer from now on: wide ones, which are a VPN's way to the Internet,
// and specific ones of tables behind our rules.
func (b *builder) lostClients(p *path, lost []Route) {
	var wideRoutes, others []string
	for _, r := range lost {
		if r.Dst.Bits() <= wide(p.family) {
			wideRoutes = appendOnce(wideRoutes, r.String())
		} else {
			others = appendOnce(others, r.String())
		}
	}
	for _, s := range wideRoutes {
		b.find(Finding{Code: "wide-tunnel-route", Severity: Info,
			Subject: pathName(p), Origin: s,
			Message: fmt.Sprintf("replies of %s leave by the path and no "+
				"longer by this wide route", pathName(p)),
			Hint: "if clients do come through it: --direct PREFIX"})
	}
	for _, s := range others {
		b.find(Finding{Code: "overlay-moves", Severity: Warning,
			Subject: pathName(p), Origin: s,
			Message: fmt.Sprintf("clients behind this route got replies of %s "+
				"through it, and will get them through the path", pathName(p)),
			Hint: "put a rule for their prefix in front of our " +
				"rules, or the route into main"})
	}
}

// bindMoves says which upstreams a *_bind reaches another way from now on.
func (b *builder) bindMoves(after *FIB, bind Bind) {
	if !bind.Addr.IsValid() || bind.Transparent {
		return
	}
	upstreams := bind.Upstreams
	if len(upstreams) == 0 {
		upstreams = []netip.Addr{OffLink(b.host, FamilyOf(bind.Addr))}
	}
	for _, u := range upstreams {
		if FamilyOf(u) != FamilyOf(bind.Addr) {
			continue
		}
		q := Query{Src: bind.Addr, Dst: u}
		x, y := b.fib.Lookup(q), after.Lookup(q)
		if sameAnswer(x, y) {
			continue
		}
		target := u.String()
		if len(bind.Upstreams) == 0 {
			target = "upstreams off-link"
		}
		b.find(Finding{Code: "bind-moves", Severity: Warning, Subject: bind.Addr.String(),
			Origin: bind.Origin,
			Message: fmt.Sprintf("connections from %s to %s: %s -> %s", bind.Addr,
				target, x.Way, y.Way),
			Hint: fmt.Sprintf("keep the present way: --direct %s",
				netip.PrefixFrom(u, u.BitLen()))})
	}
}

// sourceHints finds routes of main that give unbound connections a source
// within a cover: their next lookup, with that source, takes the path.
func (b *builder) sourceHints(after *FIB) {
	for _, r := range b.host.Routes {
		if r.Table != TableMain || !r.Src.IsValid() || r.Type != Unicast ||
			r.Protocol == protocolKernel {
			continue
		}
		dst := b.inside(r.Dst)
		if r.IsDefault() {
			dst = OffLink(b.host, r.Family())
		}
		q := Query{Src: r.Src, Dst: dst}
		x, y := b.fib.Lookup(q), after.Lookup(q)
		if sameAnswer(x, y) || x.Route == nil || x.Route.RouteKey != r.RouteKey ||
			leaveBy(y, r.Hops) {
			continue
		}
		b.find(Finding{Code: "src-hint", Severity: Warning, Subject: r.Src.String(),
			Origin: r.String(),
			Message: fmt.Sprintf("the host's own connections by this route take the "+
				"source %s, whose way changes: %s -> %s", r.Src, x.Way, y.Way),
			Hint: "give the route another src, or none"})
	}
}

// leaveBy says whether a lookup ends at the only one of the hops.
func leaveBy(t Trace, hops []Hop) bool {
	return len(t.Ends) == 1 && len(hops) == 1 && t.Way.Type == Unicast &&
		t.Way.Link == hops[0].Link && t.Way.Via == hops[0].Via
}

// forwarder says that forwarded packets keep their way.
func (b *builder) forwarder() {
	for _, f := range Families {
		key := "ipv4.ip_forward"
		if f == IPv6 {
			key = "ipv6.conf.all.forwarding"
		}
		lans := 0
		for _, link := range b.host.Links {
			if len(b.connected(linkFamily{link.Name, f})) > 0 && !link.Loopback {
				lans++
			}
		}
		if b.host.Sysctls[key] == "1" && lans > 1 {
			b.find(Finding{Code: "forwarder", Severity: Info, Subject: f.String(),
				Message: fmt.Sprintf("the host forwards %s between %d LANs; "+
					"forwarded packets are not touched", f, lans)})
		}
	}
}

// reversePath finds uplinks where strict rp_filter drops requests, because the
// replies would leave elsewhere.
func (b *builder) reversePath() {
	told := map[string]bool{}
	for _, r := range b.rows {
		if r.Link == "" || told[r.Link] || FamilyOf(r.Addr) != IPv4 ||
			r.After.Link == r.Link || r.Status == LocalOnly || r.Status == Armed ||
			!b.strictRPFilter(r.Link) {
			continue
		}
		told[r.Link] = true
		b.find(Finding{Code: "rp-filter", Severity: Warning, Subject: r.Link,
			Message: fmt.Sprintf("strict rp_filter on %s drops requests to %s: "+
				"its replies leave by %s", r.Link, r.Addr, r.After),
			Hint: fmt.Sprintf("mend the reply's way, or: sysctl "+
				"net.ipv4.conf.%s.rp_filter=2", r.Link)})
	}
}

// strictRPFilter says what holds on a link: the larger of its own value and
// that of all.
func (b *builder) strictRPFilter(link string) bool {
	all, own := b.host.Sysctls["ipv4.conf.all.rp_filter"],
		b.host.Sysctls["ipv4.conf."+link+".rp_filter"]
	return max(all, own) == "1"
}

// outsideRange finds objects with our protocol that are not in our ranges: they
// are left alone.
func (b *builder) outsideRange() {
	add := func(line string) {
		b.find(Finding{Code: "outside-range", Severity: Warning,
			Subject: fmt.Sprintf("protocol %d", b.policy.Numbers.Protocol),
			Origin:  line,
			Message: "this has our protocol but is outside our ranges of tables and " +
				"priorities: it is not touched",
			Hint: "delete it by hand if it is a leftover"})
	}
	for _, r := range b.host.Rules {
		if r.Protocol == b.policy.Numbers.Protocol {
			add(r.String())
		}
	}
	for _, r := range b.host.Routes {
		if r.Protocol == b.policy.Numbers.Protocol {
			add(r.String())
		}
	}
}
