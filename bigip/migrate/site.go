package migrate

import (
	"net/netip"
	"slices"

	"lasthop/bigip"
	"lasthop/routing"
)

// sites are the addresses that virtual servers serve.
type sites map[netip.Addr]*site

// site is one address. All its virtual servers, and all VLANs that their
// clients come in by, share one interface and one way here: they are judged
// together.
type site struct {
	domains []int // the route domains that it serves in
	vlans   []string
	outcome *routing.Outcome // its outcome
	move    *move            // nil until a row of it is added
	owner
}

// owner is the link by which replies from an address leave, or the links of
// which the user must choose one.
type owner struct {
	link    string
	among   []string
	foreign bool // none of the VLANs is on link; they are on among
	alone   bool // no interface here is on one of the VLANs
}

// holder is a stanza of the BIG-IP, other than a virtual address, that answers
// neighbours' requests for an address.
type holder struct {
	kind   string // "net self", "ltm snat-translation" or "ltm nat"
	name   string
	origin string
	floats bool // a self IP that moves with its traffic group
}

// newHolders returns what answers for the addresses of a BIG-IP.
func newHolders(c bigip.Config) map[domain][]holder {
	all := map[domain][]holder{}
	add := func(at domain, h holder) { all[at] = append(all[at], h) }
	for _, s := range c.Selfs {
		add(domain{s.Prefix.Addr(), s.Domain}, holder{"net self", s.Name, s.Origin,
			s.Floating})
	}
	for _, t := range c.Translations {
		if !t.NoARP {
			add(domain{t.Addr, t.Domain}, holder{t.Kind, t.Name, t.Origin, false})
		}
	}
	return all
}

// newSites gathers the VLANs of each address, and finds its owner.
func newSites(f *files, n network, h *here) sites {
	all := make(sites, len(f.wanted))
	for i := range f.config.Virtuals {
		v := &f.config.Virtuals[i]
		if reason, _ := unserved(v); reason != "" {
			continue
		}
		for _, d := range v.Destinations {
			addr, ok := d.Host()
			if !ok {
				continue
			}
			s := all[addr]
			if s == nil {
				s = &site{outcome: h.outcome(addr)}
				all[addr] = s
			}
			s.domains = appendNew(s.domains, d.Domain)
			for _, in := range f.ingresses[i] {
				s.vlans = appendNew(s.vlans, in.VLAN)
			}
		}
	}
	for addr, s := range all {
		s.owner = n.owner(addr, s.vlans, s.outcome.Link)
	}
	return all
}

// owner finds the link by which replies from an address leave that clients
// reach by these VLANs. If the decision does not tell, decided is "": then it
// is that of the VLAN whose subnet holds the address, or of the VLAN with the
// BIG-IP's default gateway, or of the only VLAN; "" if nothing decides.
func (n network) owner(addr netip.Addr, vlans []string, decided string) owner {
	if decided != "" {
		var all []string
		for _, vlan := range vlans {
			for _, link := range n.places[vlan].links {
				all = appendNew(all, link)
			}
		}
		foreign := len(all) > 0 && !slices.Contains(all, decided)
		return owner{decided, all, foreign, len(all) == 0}
	}
	var with []string
	for _, holds := range []func(place) bool{
		func(p place) bool { return p.contains(addr) },
		func(p place) bool { return p.hasDefault(routing.FamilyOf(addr)) },
		func(place) bool { return true },
	} {
		with = nil
		for _, vlan := range vlans {
			if p := n.places[vlan]; len(p.links) == 1 && holds(p) {
				with = appendNew(with, p.links[0])
			}
		}
		if len(with) == 1 {
			return owner{link: with[0]}
		}
	}
	return owner{among: with}
}

// held reports what else of the BIG-IP answers for the row's address: while it
// does, the address has two owners.
func (j *joiner) held(l *line) {
	const too = "the BIG-IP answers ARP for the address even if its virtual address is " +
		"disabled, since it is also "
	for _, h := range j.holders[domain{l.addr, l.d.Domain}] {
		if j.stays(l, h) {
			continue
		}
		if h.kind == "net self" {
			what := "a self IP, " + h.name
			if h.floats {
				what += ", which moves with its traffic group"
			}
			l.needs("self-ip", l.addr.String(), h.origin, too+what,
				"give the BIG-IP another self IP there, delete this one, and "+
					"take the files again; or serve another address here")
			continue
		}
		what := h.kind + " " + routing.ShellWord(h.name)
		l.needs("snat-translation", l.addr.String(), h.origin,
			too+"one that it translates to: "+h.kind+" "+h.name,
			"tmsh modify "+what+" arp disabled, "+
				"or translate to another address; then take the files again")
		j.cut.free(what)
	}
}
