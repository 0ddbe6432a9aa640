package routing

import (
	"fmt"
	"net/netip"
	"slices"
)

// routed names listeners whose address no subnet holds, on a host with several
// uplinks: a router must send requests for it here, and a router of any uplink
// may. A lookup knows the address alone, so the uplink that the host names for
// it answers all requests. A link that the user names takes precedence. A link
// without a subnet has only such addresses: they are its own.
func (w *describer) routed() {
	s := resolver{draft: w.draft}
	for _, r := range w.rows {
		f := FamilyOf(r.Addr)
		_, pinned := w.policy.address(r.Addr)
		if r.path == nil || r.path.lastHop || r.Status == Unresolved ||
			r.After.Link != r.path.link || pinned || s.subnetAround(r.Addr).IsValid() ||
			!w.hasSubnet(linkFamily{r.path.link, f}) {
			continue
		}
		uplinks, strict := w.otherUplinks(r.path.link, f)
		if len(uplinks) == 0 {
			continue
		}
		what := "even if requests come in by " + Some(uplinks, 8)
		advice := fmt.Sprintf("if all requests come in by %s: %s", r.path.link,
			Flag("address", r.Addr.String()+"="+r.path.link))
		if w.marks(f) {
			what += ", unless a packet mark routes them elsewhere"
		}
		if len(strict) > 0 {
			what += "; strict rp_filter drops requests that come in by " +
				Some(strict, 8)
		}
		if len(strict) > 0 && w.marks(f) {
			advice += "; if marks route replies back by another uplink, let " +
				"rp_filter accept the " +
				"requests: " + Sysctl("net/ipv4/conf/"+strict[0]+"/rp_filter", 2)
		}
		w.find(Info.Finding("routed-address", r.Addr.String(), "no subnet of this host "+
			"holds %s, so the router of any uplink may send requests to it; replies "+
			"leave by %s, %s", r.Addr, r.path.link, what).
			Advise("%s", advice))
	}
}

// hasSubnet reports whether a link has a subnet of a family.
func (w *describer) hasSubnet(key linkFamily) bool {
	return len(w.connected[key]) > 0 || len(w.pointed(key)) > 0
}

// otherUplinks returns the uplinks of a family except one, and those of them on
// which strict rp_filter drops requests whose replies leave elsewhere, sorted.
func (w *describer) otherUplinks(but string, f Family) (uplinks, strict []string) {
	for _, l := range w.sorted {
		if l.Name == but || !w.isUplink(l.Name, f) || !w.outwardIn(l.Name, f) {
			continue
		}
		uplinks = append(uplinks, l.Name)
		if w.strict(l.Name, f) {
			strict = append(strict, l.Name)
		}
	}
	return uplinks, strict
}

// strict reports whether a link drops packets whose replies would leave by
// another link. IPv6 has no such setting.
func (w *describer) strict(link string, f Family) bool {
	mode, _ := w.host.conf(link, "rp_filter")
	return f == IPv4 && mode == 1
}

// marks reports whether a foreign rule leads marked packets of a family to a
// table.
func (w *describer) marks(f Family) bool {
	return slices.ContainsFunc(w.host.Rules, func(r Rule) bool {
		return r.Family == f && r.Mask != 0 && r.Action == ToTable && r.Table != TableMain
	})
}

// strictRouters finds routers whose own packets strict rp_filter drops, because
// replies to them would leave by another link. ARP is among these packets: a
// router that needs an ARP reply cannot deliver requests of the clients behind
// it, either.
func (w *describer) strictRouters() {
	type pair struct {
		link   string
		router netip.Addr
	}
	told := map[pair]bool{}
	for _, r := range w.rows {
		if r.path == nil || r.After.Link != r.path.link ||
			!w.strict(r.path.link, FamilyOf(r.Addr)) {
			continue
		}
		router := r.path.hops[0].Via
		at := pair{r.path.link, router}
		if !router.IsValid() || told[at] {
			continue
		}
		way := w.after.Way(Query{Src: r.Addr, Dst: router})
		if told[at] = way.Link != at.link; !told[at] {
			continue
		}
		w.find(Warning.Finding("rp-filter", at.link, "strict rp_filter on %s drops what "+
			"the router %s itself sends to %s, because the reply would leave by %s. "+
			"That includes ARP requests: without an answer the router sends no "+
			"request of the clients behind it", at.link, router, r.Addr, way).
			Advise("make the replies leave by the interface of the requests, or: %s",
				Sysctl("net/ipv4/conf/"+at.link+"/rp_filter", 2)))
	}
}
