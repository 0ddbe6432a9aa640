package bigip

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Level is where a decision about replies was made.
type Level string

const (
	ByRule     Level = "irule"
	ByPool     Level = "last-hop-pool"
	ByVirtual  Level = "virtual"
	ByVLAN     Level = "vlan"
	ByGroup    Level = "vlan-group"
	ByTunnel   Level = "tunnel"
	ByVariable Level = "global"
)

// Return is the way that a BIG-IP sent replies.
type Return string

const (
	ToLastHop     Return = "last-hop"      // to the MAC address that the connection came from
	ToLastHopPool Return = "last-hop-pool" // to a member of a pool of gateways: Hops
	Routed        Return = "routed"        // by the routing table
	Scripted      Return = "irule"         // by commands of an iRule: the user must read it
)

// Decision is what held for the replies of a virtual server on one VLAN, and
// why. It can be printed as it is.
type Decision struct {
	Return Return
	Level  Level
	Value  string // the setting that decided: "enabled", the pool, or the iRules
	Origin string // its file:line; "" for F5's default
}

// Ingress is one VLAN that clients of a virtual server come in by.
type Ingress struct {
	// "" if the files have no VLAN of its route domains: all VLANs that
	// there are
	VLAN string
	Decision
	Known          bool // the files have its stanza
	SourceChecking bool // packets whose reply would leave by another VLAN were dropped
}

// Ingresses returns the VLANs that a virtual server serves, in the order of the
// list or of the files, with what held there. It ignores whether v is disabled
// or rejects its clients. If v serves all VLANs these are those of its route
// domains, without members of VLAN groups, tunnels of explicit proxies and
// VLANs that only units use (HA): no client comes in by them. There is none if
// v.VLANs is unclear, and for an Internal virtual server, which only other
// virtual servers send to.
func (c Config) Ingresses(v Virtual) []Ingress {
	switch {
	case v.VLANs.Unclear, v.Type == Internal:
		return nil
	case len(v.VLANs.Only) > 0:
		return c.only(&v)
	case !slices.ContainsFunc(c.VLANs, func(x VLAN) bool { return v.in(x.Domain) }):
		return []Ingress{c.ingress(&v, &VLAN{}, false)}
	}
	var list []Ingress
	grouped := map[string]bool{}
	for i := range c.VLANs {
		if g := &c.VLANs[i]; g.Kind == "vlan-group" {
			for _, m := range g.Members {
				grouped[m] = true
			}
		}
	}
	for i := range c.VLANs {
		vlan := &c.VLANs[i]
		if !vlan.Proxy && !vlan.HA && !grouped[vlan.Name] && v.in(vlan.Domain) &&
			!slices.Contains(v.VLANs.Except, vlan.Name) {
			list = append(list, c.ingress(&v, vlan, true))
		}
	}
	return list
}

// only returns the VLANs of a list.
func (c *Config) only(v *Virtual) []Ingress {
	var list []Ingress
	for _, name := range v.VLANs.Only {
		i := slices.IndexFunc(c.VLANs, func(x VLAN) bool { return x.Name == name })
		vlan := &VLAN{Name: name}
		if i >= 0 {
			vlan = &c.VLANs[i]
		}
		list = append(list, c.ingress(v, vlan, i >= 0))
	}
	return list
}

// Gateways returns the gateways of a route: its own, or the members of its pool
// that are switched on.
func (c Config) Gateways(r Route) []netip.Addr {
	if r.Gateway.IsValid() {
		return []netip.Addr{r.Gateway}
	}
	var out []netip.Addr
	for _, pool := range c.Pools {
		if r.Pool == "" || pool.Name != r.Pool {
			continue
		}
		for _, m := range pool.Members {
			if m.Addr.IsValid() && !m.Disabled {
				out = append(out, m.Addr)
			}
		}
	}
	return out
}

// in reports whether a virtual server is in a route domain. One whose
// destination is not known may be in any.
func (v *Virtual) in(domain int) bool {
	if len(v.Destinations) == 0 {
		return true
	}
	return slices.ContainsFunc(v.Destinations, func(d Destination) bool {
		return d.Domain == domain
	})
}

func (c *Config) ingress(v *Virtual, vlan *VLAN, known bool) Ingress {
	i := Ingress{VLAN: vlan.Name, Known: known, Decision: c.decide(v, vlan, known)}
	i.SourceChecking = vlan.SourceChecking && i.Return == Routed
	return i
}

// decide walks the levels, the strongest first.
func (c *Config) decide(v *Virtual, vlan *VLAN, known bool) Decision {
	switch names, origin := v.scripted(); {
	case names != "":
		return Decision{Scripted, ByRule, names, origin}
	case v.LastHopPool != "":
		return Decision{ToLastHopPool, ByPool, v.LastHopPool, v.Origin}
	case v.AutoLastHop.decides():
		return v.AutoLastHop.decision(ByVirtual, v.Origin)
	case known && vlan.AutoLastHop.decides():
		return vlan.AutoLastHop.decision(Level(vlan.Kind), vlan.Origin)
	}
	global := c.Global
	if !global.Value.decides() {
		global.Value = Enabled // F5's default
	}
	return global.Value.decision(ByVariable, global.Origin)
}

// decides reports whether a setting leaves nothing to the next level.
func (a AutoLastHop) decides() bool { return a == Enabled || a == Disabled }

func (a AutoLastHop) decision(level Level, origin string) Decision {
	if a == Disabled {
		return Decision{Routed, level, string(a), origin}
	}
	return Decision{ToLastHop, level, string(a), origin}
}

// scripted returns the iRules that set the way of packets themselves.
func (v *Virtual) scripted() (names, origin string) {
	var all []string
	for _, r := range v.Rules {
		if len(r.Commands) == 0 {
			continue
		}
		all, origin = append(all, r.Name), cmp.Or(origin, r.Origin)
	}
	return strings.Join(all, ", "), origin
}
