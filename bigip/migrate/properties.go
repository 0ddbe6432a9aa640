package migrate

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"lasthop/bigip"
	"lasthop/routing"
)

// This file judges what a virtual server does with a connection, as far as that
// decides which server answers which client.

// offer is what clients ask for at an address.
type offer struct {
	addr      netip.Addr
	domain    int
	ports     routing.PortRange
	transport string
}

// offers returns those of a destination; none for a service on every port,
// which every other service takes precedence over.
func offers(v *bigip.Virtual, d bigip.Destination) (out []offer) {
	addr, ok := d.Host()
	if !ok || d.AnyPort() {
		return nil
	}
	for _, ports := range d.Ports {
		o := offer{addr, d.Domain, ports, v.Protocol}
		if v.Protocol != "any" {
			out = append(out, o)
			continue
		}
		for _, o.transport = range []string{"tcp", "udp"} {
			out = append(out, o)
		}
	}
	return out
}

// newShared returns the virtual servers that offer the same, by the offer; it
// leaves out an offer of only one.
func newShared(c bigip.Config) map[offer][]string {
	first := make(map[offer]*bigip.Virtual, len(c.Virtuals))
	shared := map[offer][]string{}
	for v := range serving(c) {
		for _, d := range v.Destinations {
			for _, o := range offers(v, d) {
				switch {
				case first[o] == nil:
					first[o] = v
				case first[o] != v:
					names := appendNew(shared[o], first[o].Name)
					shared[o] = appendNew(names, v.Name)
				}
			}
		}
	}
	return shared
}

// properties names what the user must read of the row's virtual server.
func (j *joiner) properties(l *line, s *site) {
	servers := l.v.Servers
	if servers.NoTranslation && l.v.Type == bigip.Standard && l.v.Kind == "ltm virtual" &&
		(servers.Pool != "" || len(l.v.Rules) > 0) {
		l.manual("direct-return", l.v.Name, l.v.Origin,
			"its servers also have its address and answer clients directly "+
				"(translate-address disabled), past the BIG-IP; a proxy such as "+
				"NGINX cannot do that",
			"leave it on the BIG-IP, or let its servers answer through NGINX")
	}
	if sharing := j.sharing(l); len(sharing) > 1 {
		l.manual("shared-listener", l.addr.String()+":"+l.Port, l.d.Origin,
			"the BIG-IP tells their clients apart by source or VLAN; NGINX has one "+
				"listener for "+routing.Some(sharing, 4),
			"decide in nginx.conf by $remote_addr (geo, map), or move them to "+
				"addresses of their own")
	}
	if j.advertised[domain{l.addr, l.d.Domain}] && !j.here.connects(s.link, l.addr) {
		l.manual("route-advertised", l.addr.String(), l.d.Origin,
			"the BIG-IP announces it by a routing protocol and withdraws it when it "+
				"stops serving it; it is in no subnet of this host, and no "+
				"program here announces it",
			"announce it from this host (BIRD, FRR), or give routers a static route")
	}
}

// sharing returns the virtual servers that offer what the line's does,
// including that one; none if it is the only one.
func (j *joiner) sharing(l *line) (names []string) {
	if len(j.shared) == 0 {
		return nil
	}
	for _, o := range offers(l.v, *l.d) {
		for _, name := range j.shared[o] {
			names = appendNew(names, name)
		}
	}
	return names
}

// connects reports whether an address is in a subnet of the link.
func (h *here) connects(link string, addr netip.Addr) bool {
	return slices.ContainsFunc(h.host.Addrs, func(a routing.Addr) bool {
		c := a.Connected()
		return a.Link == link && !c.IsSingleIP() && c.Contains(addr)
	})
}

// newAdvertised returns the addresses that a routing protocol announces.
func newAdvertised(c bigip.Config) map[domain]bool {
	all := map[domain]bool{}
	for _, a := range c.Addresses {
		if a.Advertised {
			all[domain{a.Addrs.From(), a.Domain}] = true
		}
	}
	return all
}

// sources names the virtual servers that serve only some clients.
func sources(c bigip.Config) []routing.Finding {
	var names []string
	for v := range serving(c) {
		if v.Source.IsValid() {
			names = append(names, v.Name+" ("+v.Source.String()+")")
		}
	}
	return about(names, 4, routing.Finding{Code: "source",
		Message: "the BIG-IP serves only clients of these networks; NGINX serves all " +
			"clients that it does not deny",
		Hint: "allow NETWORK; deny all;"})
}

// serving yields the virtual servers that reply to clients.
func serving(c bigip.Config) iter.Seq[*bigip.Virtual] {
	return func(yield func(*bigip.Virtual) bool) {
		for i := range c.Virtuals {
			v := &c.Virtuals[i]
			if reason, _ := unserved(v); reason == "" && !yield(v) {
				return
			}
		}
	}
}

// gateways names the virtual servers without SNAT, and the BIG-IP's role for
// their servers.
func gateways(c bigip.Config, n network) []routing.Finding {
	var names, pools, subnets, selfs []string
	origin := ""
	for v := range serving(c) {
		if !withoutSNAT(v) {
			continue
		}
		names, origin = append(names, v.Name), cmp.Or(origin, v.Origin)
		pools = append(pools, v.Servers.Pool)
	}
	pools = slices.Compact(slices.Sorted(slices.Values(pools)))
	for _, s := range n.gatewaysOf(c, pools) {
		subnets = appendNew(subnets, s.Prefix.Masked().String())
		selfs = append(selfs, s.Prefix.Addr().String()+" ("+s.Name+")")
	}
	where := routing.Some(pools, 4)
	if len(subnets) > 0 {
		where += ", in " + routing.Some(subnets, 4)
	}
	f := routing.Finding{Code: "no-snat", Origin: origin,
		Message: "the servers (" + where + ") saw each client's address, and answered " +
			"through the BIG-IP; here they see NGINX's address, and answer NGINX",
		Hint: "to tell them the client: proxy_set_header X-Forwarded-For, or " +
			"proxy_protocol"}
	return append(about(names, 4, f), about(selfs, 4, routing.Finding{Code: "gateway-role",
		Message: "floating self IPs in the subnets of servers without SNAT: they are " +
			"the gateway of these servers, so everything else that the servers send " +
			"goes through the BIG-IP" +
			forwarders(c, n, subnets),
		Hint: "keep the BIG-IP for that, or give the servers another gateway first"})...)
}

// gatewaysOf returns the self IPs that float in the subnets of pools' servers.
func (n network) gatewaysOf(c bigip.Config, pools []string) (out []bigip.Self) {
	for _, s := range c.Selfs {
		if s.Floating && slices.ContainsFunc(c.Pools, func(p bigip.Pool) bool {
			_, found := slices.BinarySearch(pools, p.Name)
			return found && slices.ContainsFunc(p.Members, func(m bigip.Member) bool {
				return m.Domain == s.Domain && s.Prefix.Contains(m.Addr)
			})
		}) {
			out = append(out, s)
		}
	}
	return out
}

// forwarders names the forwarding virtual servers that serve the subnets.
func forwarders(c bigip.Config, n network, subnets []string) string {
	var names []string
	for i := range c.Virtuals {
		v := &c.Virtuals[i]
		if v.Type != bigip.IPForward || v.Disabled != "" {
			continue
		}
		for _, in := range c.Ingresses(*v) {
			for _, p := range n.places[in.VLAN].prefixes {
				if slices.Contains(subnets, p.String()) &&
					(!v.Source.IsValid() || v.Source.Overlaps(p)) {
					names = appendNew(names, v.Name)
				}
			}
		}
	}
	if len(names) == 0 {
		return ""
	}
	return ", by the forwarding virtual servers " + routing.Some(names, 4)
}

// notJudged counts the properties that matter and that this package does not
// judge.
func notJudged(c bigip.Config) []routing.Finding {
	count := map[string]int{}
	for v := range serving(c) {
		for _, key := range v.Servers.Unjudged {
			count[key]++
		}
	}
	for _, d := range c.Domains {
		for _, name := range d.Protocols {
			count["routing-protocol "+name]++
		}
	}
	var names []string
	for _, key := range slices.Sorted(maps.Keys(count)) {
		names = append(names, fmt.Sprintf("%s (%d)", key, count[key]))
	}
	return about(names, len(names), routing.Finding{Code: "not-judged",
		Message: "properties that decide which clients get an answer and that migrate " +
			"does not judge, with how often they are set",
		Hint: "read them in the files"})
}
