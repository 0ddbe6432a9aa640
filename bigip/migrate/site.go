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
	owner
}

// owner is the link by which replies from an address leave, or the links of
// which one must be chosen.
type owner struct {
	link    string
	among   []string
	foreign bool // none of the VLANs is on link; they are on among
	alone   bool // none of the VLANs is here
}

// newSites gathers the VLANs of each address, and finds its owner.
func newSites(c bigip.Config, n network, h *here) sites {
	all := sites{}
	for _, v := range c.Virtuals {
		if reason, _ := unserved(v); reason != "" {
			continue
		}
		ins := c.Ingresses(v)
		for _, d := range v.Destinations {
			addr, ok := d.Host()
			if !ok {
				continue
			}
			s := all[addr]
			if s == nil {
				s = &site{}
				all[addr] = s
			}
			s.domains = appendNew(s.domains, d.Domain)
			for _, in := range ins {
				s.vlans = appendNew(s.vlans, in.VLAN)
			}
		}
	}
	for addr, s := range all {
		s.owner = n.owner(addr, s.vlans, h.outcomes[addr].Link)
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
