package bigip

import (
	"net/netip"
	"slices"
)

// markHA finds the VLANs on which only the units of a pair talk to each other.
// Many pairs use an ordinary VLAN for that: it does not mark a VLAN that a
// virtual server names, or with a self IP that floats, a virtual server, a
// gateway or a server in its subnet.
func (c *Config) markHA() {
	for i := range c.VLANs {
		v := &c.VLANs[i]
		var subnets []netip.Prefix
		talks, floats := false, false
		for _, s := range c.Selfs {
			if s.VLAN != v.Name {
				continue
			}
			subnets, floats = append(subnets, s.Prefix), floats || s.Floating
			talks = talks || slices.ContainsFunc(c.Devices, func(d Device) bool {
				return slices.Contains(d.HA, s.Prefix.Addr())
			})
		}
		v.HA = talks && !floats && !c.used(v, subnets)
	}
}

// used reports whether a virtual server names the VLAN, or the files name
// another host in its subnets.
func (c *Config) used(v *VLAN, subnets []netip.Prefix) bool {
	in := func(a netip.Addr, domain int) bool {
		return domain == v.Domain && slices.ContainsFunc(subnets,
			func(p netip.Prefix) bool { return p.Contains(a) })
	}
	return slices.ContainsFunc(c.Virtuals, func(x Virtual) bool {
		return slices.Contains(x.VLANs.Only, v.Name) ||
			slices.ContainsFunc(x.Destinations, func(d Destination) bool {
				a, host := d.Host()
				return host && in(a, d.Domain)
			})
	}) || slices.ContainsFunc(c.Routes, func(r Route) bool {
		return r.Interface == v.Name || in(r.Gateway, r.Domain)
	}) || slices.ContainsFunc(c.Pools, func(p Pool) bool {
		return slices.ContainsFunc(p.Members,
			func(m Member) bool { return in(m.Addr, m.Domain) })
	})
}
