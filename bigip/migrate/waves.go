package migrate

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"lasthop/bigip"
	"lasthop/routing"
)

// waves is what the virtual servers that a run leaves out still need of the
// BIG-IP. Each field maps it to their names.
type waves struct {
	addrs    map[domain][]string // addresses that they serve
	servers  map[domain][]string // addresses of their servers, if they have no SNAT
	pools    map[string][]string // SNAT pools
	names    map[string][]string // SNAT translations
	gateways map[string][]string // self IPs that are their servers' gateway

	parts map[string]bool // names of all, or of a part of their destinations

	members map[string][]bigip.Member // by pool
	selfs   []bigip.Self              // those that float
}

// newWaves records what is left out, except virtual servers whose addresses
// have moved to this host.
func newWaves(c bigip.Config, left []leftOut, present map[netip.Addr]bool) *waves {
	w := &waves{addrs: map[domain][]string{}, servers: map[domain][]string{},
		pools: map[string][]string{}, names: map[string][]string{},
		gateways: map[string][]string{}, parts: map[string]bool{},
		members: map[string][]bigip.Member{}}
	if len(left) == 0 {
		return w
	}
	for _, p := range c.Pools {
		w.members[p.Name] = p.Members
	}
	for _, s := range c.Selfs {
		if s.Floating {
			w.selfs = append(w.selfs, s)
		}
	}
	for i := range left {
		if !left[i].moved(present) {
			w.add(left[i].Virtual)
			w.parts[left[i].Name] = true
		}
	}
	for _, p := range c.SNATPools {
		for _, name := range p.Members {
			w.names[name] = append(w.names[name], w.pools[p.Name]...)
		}
	}
	return w
}

// moved reports whether all addresses of a virtual server are on this host. A
// virtual server of another route domain has not moved here: its addresses are
// different ones.
func (out leftOut) moved(present map[netip.Addr]bool) bool {
	return out.reason == notSelected && len(out.Destinations) > 0 &&
		!slices.ContainsFunc(out.Destinations, func(d bigip.Destination) bool {
			addr, ok := d.Host()
			return !ok || !present[addr]
		})
}

func (w *waves) add(v *bigip.Virtual) {
	for _, d := range v.Destinations {
		if addr, ok := d.Host(); ok {
			at := domain{addr, d.Domain}
			w.addrs[at] = named(w.addrs[at], v)
		}
	}
	w.pools[v.Servers.SNAT] = append(w.pools[v.Servers.SNAT], v.Name)
	if !withoutSNAT(v) {
		return
	}
	for _, m := range w.members[v.Servers.Pool] {
		at := domain{m.Addr, m.Domain}
		w.servers[at] = named(w.servers[at], v)
	}
	for _, name := range w.gatewaysOf(v) {
		w.gateways[name] = append(w.gateways[name], v.Name)
	}
}

// named adds the name of a virtual server, unless it was the last that was
// added: a list may have 100,000.
func named(names []string, v *bigip.Virtual) []string {
	if n := len(names); n > 0 && names[n-1] == v.Name {
		return names
	}
	return append(names, v.Name)
}

// gatewaysOf returns the self IPs that are the gateway of a virtual server's
// servers; none if it has an SNAT.
func (w *waves) gatewaysOf(v *bigip.Virtual) (names []string) {
	if !withoutSNAT(v) {
		return nil
	}
	for _, s := range w.selfs {
		if slices.ContainsFunc(w.members[v.Servers.Pool], func(m bigip.Member) bool {
			return m.Domain == s.Domain && s.Prefix.Contains(m.Addr)
		}) {
			names = append(names, s.Name)
		}
	}
	return names
}

// withoutSNAT reports whether a virtual server's servers see its clients'
// addresses, and answer them through the BIG-IP.
func withoutSNAT(v *bigip.Virtual) bool {
	return v.Servers.SNAT == "" && v.Servers.Pool != "" && !v.Servers.NoTranslation
}

// waves reports what of the row's address is still needed by virtual servers
// that this run leaves out.
func (j *joiner) waves(l *line) {
	at := domain{l.addr, l.d.Domain}
	if names := j.later.addrs[at]; len(names) > 0 {
		l.needs("address-split", l.addr.String(), l.d.Origin,
			"an address moves with all its virtual servers, and this run leaves out "+
				routing.Some(names, 4),
			"migrate them in the same run, or leave out all of them")
	}
	if names, _ := j.cut.namesOf(l); len(names) == 0 && j.later.parts[l.v.Name] {
		l.needs("address-split", l.v.Name, l.d.Origin,
			"it also serves in a route domain that this host does not serve, and "+
				"the files do not have its virtual addresses: you can only "+
				"disable it as a whole", "give the file that has them")
	}
	if names := j.later.servers[at]; len(names) > 0 {
		l.shared(l.addr.String(), l.d.Origin, "the BIG-IP connects to it for "+
			routing.Some(names, 4)+", which this run leaves out, with the client's "+
			"address as source; here replies would not go through the BIG-IP",
			"migrate them in the same run, or give them an SNAT "+
				"(source-address-translation)")
	}
}

// shared reports that virtual servers that the run leaves out need something.
func (l *line) shared(subject, origin, message, hint string) {
	l.needs("shared-by-waves", subject, origin, message, hint)
}

// stays reports whether a holder of the row's address must stay as it is for
// virtual servers that the run leaves out, and adds a finding.
func (j *joiner) stays(l *line, h holder) bool {
	names, what := j.later.names[h.name], "translates connections to"
	if h.kind == "net self" {
		names, what = j.later.gateways[h.name], "is the gateway of the servers of"
	}
	if len(names) == 0 {
		return false
	}
	l.shared(l.addr.String(), h.origin, fmt.Sprintf("the address is also that of %s %s, which "+
		"%s virtual servers that this run leaves out: %s", h.kind, h.name, what,
		routing.Some(names, 4)), "migrate them in the same run, or give them another "+
		"one first, and take the files again")
	return true
}

// common names the SNAT pools and gateways that virtual servers of this run
// have in common with those that it leaves out.
func (w *waves) common(c bigip.Config, taken iter.Seq[*bigip.Virtual]) (out []routing.Finding) {
	if len(w.pools) == 0 {
		return nil
	}
	pools, gateways := map[string][]string{}, map[string][]string{}
	for v := range taken {
		pools[v.Servers.SNAT] = append(pools[v.Servers.SNAT], v.Name)
		for _, name := range w.gatewaysOf(v) {
			gateways[name] = append(gateways[name], v.Name)
		}
	}
	for _, p := range c.SNATPools {
		moving, left := pools[p.Name], w.pools[p.Name]
		if len(moving) == 0 || len(left) == 0 {
			continue
		}
		out = append(out, routing.Warning.Finding("shared-by-waves", "SNAT pool "+p.Name,
			"virtual servers of this run translate to its addresses (%s), and so do "+
				"some that this run leaves out (%s): the addresses stay on the "+
				"BIG-IP",
			routing.Some(moving, 4), routing.Some(left, 4)).
			Advise("let servers and firewalls admit this host's own addresses; the "+
				"pool's may follow with the last of these virtual servers "+
				"(proxy_bind)"))
	}
	for _, s := range c.Selfs {
		moving, left := gateways[s.Name], w.gateways[s.Name]
		if len(moving) == 0 || len(left) == 0 {
			continue
		}
		out = append(out, routing.Warning.Finding("shared-by-waves",
			"self IP "+s.Prefix.Addr().String(), "%s is the gateway of the servers of "+
				"%s, and of virtual servers that this run leaves out: %s", s.Name,
			routing.Some(moving, 4), routing.Some(left, 4)).At(s.Origin).
			Advise("keep it on the BIG-IP until the last of them has moved"))
	}
	return out
}
